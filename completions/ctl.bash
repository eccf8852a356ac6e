# Completion of ctl for bash 4.4 or newer. Load it with: source <(ctl completion bash)
_ctl() {
    local kind= word= program=${1/#\~\//"$HOME/"}
    COMPREPLY=()
    type -P -- "$program" >/dev/null || program=ctl
    {
        IFS= read -r kind
        while IFS= read -r word; do
            [[ -z $word ]] || COMPREPLY+=("$word")
        done
    } < <(_CTL_COMPLETE=complete_bash "$program" "${COMP_LINE:0:COMP_POINT}" "$2" 2>/dev/null </dev/null)
    if [[ $kind == files ]]; then
        compopt -o default
    fi
}
complete -F _ctl ctl
