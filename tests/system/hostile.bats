# A VM in the attacker's hands: a program in QEMU's place says what it likes.
load helper

ends_as() {
	[ "$(report .status)" = "$1" ]
	[ "$(report .guest)" = null ]
}

@test "more output than the limits let through ends the VM" {
	hostile_vm 'say stage supervise; say started' 'yes >&$out' 'sleep 100000'
	run --separate-stderr -125 jobvm run -o out --max-stdout 1M -- true
	ends_as invalid_result
	[ "$(report '.host.stdout_bytes <= 1048576 + 65536')" = true ]
}

@test "an unmounted disk without a record is incomplete, whatever was said" {
	hostile_vm 'say started; say ended 0 0; say unmounted' 'sleep 100000'
	run --separate-stderr -125 jobvm run -o out -- true
	ends_as incomplete
}

@test "noise on the control port is nothing but noise" {
	hostile_vm 'printf "\\0\\1\\377\\n%.0s" {1..10000} >&$control; say; say started extra words; say no-such-word' \
		'printf "x%.0s" {1..100000} >&$control; say fatal; say ended -1 99999999999999999999' 'exit 0'
	run --separate-stderr -125 jobvm run -o out -- true
	jq -e . out/job.json >/dev/null
	[ "$(report .exit_code)" -eq 125 ]
}

@test "a guest that asks for the time is told it each time, and one that does not listen harms nobody" {
	hostile_vm 'for n in 1 2 3; do
			say clock; read -r word seconds nanoseconds <&$control
			[ "$((seconds - $(date +%s)))" -ge -1 ] && echo "$word $((nanoseconds < 1000000000))" >&$out
		done' \
		'yes clock | head -n 100000 >&$control' 'say fatal here' 'exit 0'
	run --separate-stderr -125 jobvm run -o out --start cold -- true
	prints $'time 1\ntime 1\ntime 1'
	says here
}

@test "what a guest gives as its reason is escaped" {
	hostile_vm 'say "fatal $(printf "\033[2J\033]0;title\a")"' 'exit 0'
	run --separate-stderr -125 jobvm run -o out -- true
	says '\x1b[2J\x1b]0;title\x07'
	jq -e . out/job.json >/dev/null
}

@test "a VM that claims to have ended does not outlive allowed_job_duration" {
	hostile_vm 'say started; say ended 0 0' 'while :; do say alive; sleep 0.2; done'
	run --separate-stderr -124 jobvm run -o out --allowed-job-duration 2 --job-max-vacate-time 0 -- true
	ends_as timeout
}

@test "a VM that does not keep the time limit is ended by the host" {
	hostile_vm 'say started' 'while :; do say alive; sleep 0.2; done'
	run --separate-stderr -125 jobvm run -o out --allowed-execute-duration 1 --job-max-vacate-time 0 -- true
	ends_as unresponsive
	says "time limit"
}

@test "a VM that says unmounted and does not end is killed, and its disk is read" {
	hostile_vm 'say unmounted' 'trap "" TERM INT HUP' 'while :; do sleep 1; done'
	run --separate-stderr -125 jobvm run -o out -- true
	ends_as incomplete
	! pgrep -f "$qemu_directory/"
}
