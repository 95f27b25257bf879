# shellcheck shell=bash
# Telling the user: steps with name and time, a log, what failed and the way out. Knows nothing of what the steps do.

readonly LOG_TAIL_LINES=25
readonly LOGS_KEPT=5

verbose=0
log_file=''
progress_pid=''
step_status=0
remarks=()
temporaries=() # what is to be gone at the end

say() { printf '%s\n' "$*"; }

readonly TOLD=97 # the exit status of a failure that the user has been told, also out of a subshell

# die STEP MESSAGE...: the step that failed, why, and what to do about it, one line each.
die() {
    printf '\ninstall.sh failed: %s\n' "$1" >&2
    shift
    printf '  %s\n' "$@" >&2
    exit "$TOLD"
}

# remark LINE...: something that the user should read once all is done.
remark() { remarks+=("$@"); }

say_remarks() {
    local line
    for line in ${remarks[@]+"${remarks[@]}"}; do
        say "$line"
    done
}

# Opens this run's log in DIR, and forgets all but the newest few of earlier runs.
open_log() {
    local logs=$1 old
    mkdir -p -- "$logs"
    log_file="$logs/install-$(date +%Y%m%d-%H%M%S)-$$.log"
    : >"$log_file"
    # The names hold a date: their order is their age.
    for old in "$logs"/install-*.log; do say "$old"; done | sort -r | tail -n "+$((LOGS_KEPT + 1))" |
        while IFS= read -r old; do rm -f -- "$old"; done
}

# Shows elapsed time and, where the step's log has one, the last [n/m] of the build, until it is killed.
show_progress() {
    local name=$1 first_line=$2 started=$SECONDS count
    while sleep 2; do
        count=$(tail -n "+$first_line" "$log_file" | grep -Eo '\[[0-9]+/[0-9]+\]' | tail -n 1) || count=''
        printf '\r  ....  %s %s %d s ' "$name" "$count" "$((SECONDS - started))"
    done
}

stop_progress() {
    if [[ -n "$progress_pid" ]]; then
        kill "$progress_pid" 2>/dev/null || true
        wait "$progress_pid" 2>/dev/null || true
        progress_pid=''
        printf '\r\033[K'
    fi
}

# At the end of the whole: nothing fails without a word.
on_exit() {
    local status=$?
    stop_progress
    rm -rf -- ${temporaries[@]+"${temporaries[@]}"}
    if ((status == TOLD)); then
        exit 1
    elif ((status != 0)); then
        printf '\ninstall.sh failed unexpectedly (status %d). To see where: bash -x %s\n' "$status" "$0" >&2
    fi
    exit "$status"
}

# run_step NAME FUNCTION [ARGUMENT...]: runs it; where it fails, so does the whole.
run_step() {
    try_step "$@"
    if ((step_status != 0)); then
        printf '\ninstall.sh failed: %s\n  The whole log: %s\n' "$1" "$log_file" >&2
        exit "$TOLD"
    fi
}

# try_step NAME FUNCTION [ARGUMENT...]: runs it in a subshell, so that it can change files but none of our variables.
# Where it fails, it says so and sets step_status; not a command that fails, which would take errexit from the function.
try_step() {
    local name=$1 started=$SECONDS first_line
    shift
    printf '== %s\n' "$name" >>"$log_file"
    first_line=$(($(wc -l <"$log_file") + 1))
    # errexit has no effect in the operand of && or ||: hence the plain subshell between set +e and set -e.
    if ((verbose)); then
        say "== $name"
        set +e
        (set -e; "$@") 2>&1 </dev/null | tee -a "$log_file"
        step_status=${PIPESTATUS[0]}
        set -e
    else
        if [[ -t 1 ]]; then
            show_progress "$name" "$first_line" &
            progress_pid=$!
        fi
        set +e
        (set -e; "$@") >>"$log_file" 2>&1 </dev/null
        step_status=$?
        set -e
        stop_progress
    fi
    if ((step_status != 0)); then
        {
            printf '  FAIL  %s (%d s, exit status %d)\n\n' "$name" "$((SECONDS - started))" "$step_status"
            tail -n "+$first_line" "$log_file" | tail -n "$LOG_TAIL_LINES"
        } >&2
        return
    fi
    printf '  ok    %s (%d s)\n' "$name" "$((SECONDS - started))"
}
