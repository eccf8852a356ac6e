# Completion of ctl for fish. Load it with: ctl completion fish | source
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
