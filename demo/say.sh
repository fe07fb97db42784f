# How the demos speak: `say WORDS`, and `run ARGUMENTS` for an embedrt command that is shown first. Needs $bin.
say() { printf '\n==> %s\n' "$*"; }
run() {
    local arg line='$ embedrt'
    for arg; do
        if [[ $arg == *[[:space:]?*\'\"]* ]]; then arg=${arg@Q}; fi
        line+=" $arg"
    done
    printf '%s\n' "$line"
    "$bin/embedrt" "$@"
}
# Without a terminal tables are cut at 80 columns.
[[ -t 1 ]] || export COLUMNS=120
