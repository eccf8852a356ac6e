"""The completion scripts that `ctl completion` prints and `make generate` writes. `protocol` is their other side.

Each runs the `ctl` of the line with `_CTL_COMPLETE` in its environment, and reads the answer as text only.
"""

from __future__ import annotations

_BASH = r"""# Completion of ctl for bash 4.4 or newer. Load it with: source <(ctl completion bash)
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
"""

_ZSH = r"""#compdef ctl
# Completion of ctl for zsh. Load it with: source <(ctl completion zsh)
# or put this file as _ctl into a folder of $fpath, before compinit runs.
_ctl() {
    local kind= word= help= program=${(Q)words[1]} last=${(Q)${:-$IPREFIX$PREFIX}}
    local -a plain helped shown
    program=${program/#\~\//$HOME/}
    whence -p -- "$program" >/dev/null || program=ctl
    {
        IFS= read -r kind
        while IFS=$'\t' read -r word help; do
            if [[ -n $help ]]; then
                helped+=("$word")
                shown+=("${(r:24:)word}  $help")
            elif [[ -n $word ]]; then
                plain+=("$word")
            fi
        done
    } < <(_CTL_COMPLETE=complete_zsh "$program" "${(@Q)words[2,CURRENT-1]}" "$last" 2>/dev/null </dev/null)
    if [[ $kind == files ]]; then
        compset -P '--*='
        _files
        return
    fi
    local added=1
    (( $#helped )) && compadd -l -d shown -a helped && added=0
    (( $#plain )) && compadd -a plain && added=0
    return added
}
if [[ $funcstack[1] == _ctl ]]; then
    _ctl "$@"
else
    compdef _ctl ctl
fi
"""

_FISH = r"""# Completion of ctl for fish. Load it with: ctl completion fish | source
function __ctl_complete
    set -l words (commandline -xpc 2>/dev/null; or commandline -opc)
    set -l token (commandline -ct)
    set -l program (string replace -r '^~/' "$HOME/" -- $words[1])
    type -fq -- $program; or set program ctl
    set -l lines (_CTL_COMPLETE=complete_fish $program $words[2..-1] "$token" 2>/dev/null </dev/null)
    if test "$lines[1]" = files
        set -l option (string match -r '^--[^=]*=' -- $token)
        for path in (__fish_complete_path (string replace -- "$option" '' $token))
            echo -- "$option"$path
        end
    else if set -q lines[2]
        string join -- \n $lines[2..-1]
    end
end
complete -c ctl -f -a '(__ctl_complete)'
"""

SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
FILE_NAMES = {"bash": "ctl.bash", "zsh": "_ctl", "fish": "ctl.fish"}
"""The names under which a shell finds its script in its folder of completions."""
