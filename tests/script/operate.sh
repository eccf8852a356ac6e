#!/bin/bash
# What a pipeline does with a cluster, as a pipeline would write it. Needs: ctl on the PATH, CONTROLLER_ADDRESS of a
# controller that knows no instance yet. Says OK at the end.
set -euo pipefail

first=qwen@llm/10.0.0.4:8001
second=qwen@llm/10.0.0.5:8001
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

fail() {
    echo "operate.sh: $*" >&2
    exit 1
}

# exits_with CODE COMMAND...: the command has to end with that exit code; its output is shown only if it does not.
exits_with() {
    local wanted=$1 code=0
    shift
    "$@" >"$folder/out" 2>"$folder/err" || code=$?
    if [ "$code" != "$wanted" ]; then
        cat "$folder/out" "$folder/err" >&2
        fail "exit $code, not $wanted: $*"
    fi
}

# routable NAME: the references of the instances that get requests, on one line.
routable() {
    ctl models list "$1" --healthy-only -o name -q | tr '\n' ' '
}

ctl wait --controller --timeout 30s
exits_with 5 ctl assert qwen --min-healthy 1
exits_with 5 ctl wait qwen --timeout 100ms

# Two workers come.
ctl models register "$first" "$second"
ctl wait qwen --for 'healthy>=2' --timeout 10s
ctl assert qwen --min-healthy 2 --max-age 1m

# One goes into maintenance: no requests, also when its worker starts again.
ctl models drain "$first" --reason maintenance --wait
[ "$(routable qwen)" = "$second " ] || fail "drained, and still handed out: $(routable qwen)"
ctl models register "$first"
[ "$(routable qwen)" = "$second " ] || fail "a register ended the drain"
ctl wait qwen --for 'drained=1' --timeout 10s
exits_with 5 ctl assert qwen --min-healthy 2
ctl models undrain "$first" --wait
ctl assert qwen --min-healthy 2

# A whole host, and what is not there.
ctl models drain --host 10.0.0.5 --yes
ctl models undrain --host 10.0.0.5 --yes
exits_with 4 ctl models drain --host 10.0.0.99 --yes
exits_with 2 ctl models drain --host 10.0.0.5 </dev/null
exits_with 2 ctl models drain "$first" "$second"
ctl models list --host 10.0.0.5 -o name | ctl models drain -
ctl models list --state drained -o name | ctl models undrain - --wait
ctl models list --state drained -o name | ctl models undrain -
exits_with 4 ctl models drain nobody/10.0.0.4:1

# The cluster as a file.
cat >"$folder/instances.yaml" <<'END'
instances:
  - {model: qwen, host: 10.0.0.4, port: 8001, weight: 2}
  - {model: qwen, host: 10.0.0.6, port: 8001, enabled: false}
END
exits_with 5 ctl diff --prune -f "$folder/instances.yaml"
ctl apply -f "$folder/instances.yaml" --prune --dry-run
ctl apply -f "$folder/instances.yaml" --prune --yes
exits_with 0 ctl diff --prune -f "$folder/instances.yaml"
again=$(ctl apply -f - --prune --yes <"$folder/instances.yaml")
if grep -v ' unchanged$' <<<"$again"; then fail "the second apply changed something"; fi
[ "$(routable qwen)" = "$first " ] || fail "after apply there are: $(routable qwen)"
echo 'instances: []' >"$folder/empty.yaml"
exits_with 2 ctl apply -f "$folder/empty.yaml" --prune --yes

# Housekeeping: nobody has been gone for that long.
exits_with 0 ctl models prune --older-than 7d --dry-run
exits_with 0 ctl models prune --older-than 7d --yes
exits_with 2 ctl models prune --older-than 7d </dev/null

# What happened.
events=$(ctl events -o json)
grep -q maintenance <<<"$events" || fail "the drain is not among the events"

ctl models deregister qwen@llm/10.0.0.4:8001 qwen@llm/10.0.0.6:8001 --remove
ctl wait qwen --for absent --timeout 10s
echo OK
