# bash completion for proa and migrate. `proa completion bash` prints it; put it into /etc/bash_completion.d/proa.
_proa_guests() { proa list 2>/dev/null | awk 'NR > 1 { print $1 }'; }

_proa_options() {
    case $1 in
        create) echo "--paused --console --dry-run" ;;
        shutdown) echo "--wait --timeout" ;;
        reboot) echo "--force" ;;
        dmesg) echo "--clear --follow" ;;
        top) echo "--vcpus -d -n" ;;
        migrate) echo "--downtime --compress --bandwidth --channels --port --no-converge --dirty-log --auto-converge" \
                      "--progress --plaintext --cancel --resolve" ;;
        protect) echo "--interval --max-lag --max-overhead --ack-timeout --disk --port --no-network-buffer --unsafe --auto-reprotect" \
                      "--plaintext --progress --status --watch --rounds" ;;
        keys) echo "--dir" ;;
    esac
    echo "--help --json --socket"
}

_proa() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} verb= position=0 word i words=
    local verbs="create list info console pause unpause shutdown reboot destroy vcpu-list vcpu-pin dirty-log dmesg top migrate
        protect unprotect failover keys completion help"
    [ "${COMP_WORDS[0]##*/}" = migrate ] && verb=migrate
    for ((i = 1; i < COMP_CWORD; i++)); do  # the verb, and how many words that are no options follow it
        word=${COMP_WORDS[i]}
        case $word in
            --socket | --dir) ((i++)) ;;
            -*) ;;
            *) if [ -z "$verb" ]; then verb=$word; else position=$((position + 1)); fi ;;
        esac
    done
    case $prev in
        --compress) COMPREPLY=($(compgen -W "auto off 1 3 6 9" -- "$cur")); return ;;
        --no-converge) COMPREPLY=($(compgen -W "stop giveup" -- "$cur")); return ;;
        --dirty-log) COMPREPLY=($(compgen -W "hardware write-protect" -- "$cur")); return ;;
        --socket | --dir) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        --interval) COMPREPLY=($(compgen -W "adaptive 25ms 50ms 100ms" -- "$cur")); return ;;
        --max-lag | --max-overhead | --ack-timeout | --disk | --watch | --rounds) return ;;
        --downtime | --bandwidth | --channels | --port | --timeout) return ;;
    esac
    if [ "${cur:0:1}" = - ]; then
        words=$(_proa_options "$verb")
    else
        case $verb:$position in
            :0) words=$verbs ;;
            create:0) COMPREPLY=($(compgen -f -- "$cur")); return ;;
            list:0 | info:0 | console:0 | pause:0 | unpause:0 | shutdown:0 | reboot:0 | destroy:0 | vcpu-list:0 | vcpu-pin:0 | \
                dirty-log:0 | migrate:0 | protect:0 | unprotect:0 | failover:0) words=$(_proa_guests) ;;
            vcpu-pin:1 | vcpu-pin:2) words="all 0 1 2 3 4 5 6 7" ;;
            dirty-log:1) words="off hardware write-protect harvest checkpoint fence" ;;
            migrate:1 | protect:1) COMPREPLY=($(compgen -A hostname -- "$cur")); return ;;
            keys:0) words=init ;;
            completion:0) words=bash ;;
            help:0) words="$verbs exit-codes config" ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -F _proa proa migrate
