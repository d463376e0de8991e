# jobvm run behaves like the command that it runs.
load helper

@test "stdout and stderr come apart, and the exit code is the job's" {
	run --separate-stderr -7 jobvm run -- sh -c 'echo out; echo err >&2; exit 7'
	prints out
	[ "$stderr" = err ]
}

@test "output appears while the job runs" {
	# The job never ends by itself: what is read here came before its end.
	start_job -- sh -c 'echo first; sleep 100000'
	[ "$first_line" = first ]
	kill -INT "$jobvm_pid"
	end_job
	[ "$code" -eq 130 ]
}

@test "standard input comes from a file, and is empty without one" {
	printf 'hello world' >input
	run --separate-stderr -0 jobvm run --stdin input -- wc -c
	prints 11
	run --separate-stderr -0 jobvm run -- wc -c
	prints 0
}

@test "large output arrives whole and in order" {
	run --separate-stderr -0 jobvm run -o out -- sh -c 'seq 1 200000'
	[ "$(md5sum <<<"$output")" = "$(seq 1 200000 | md5sum)" ]
	seq 1 200000 | cmp - out/stdout
}

@test "the job's clock is the host's" {
	before=$(date +%s)
	run --separate-stderr -0 jobvm run -- date +%s
	[ "$output" -ge "$before" ]
	[ "$output" -le "$(date +%s)" ]
}

@test "a reader that is slower than the job's time limit does not fail the job" {
	# As much as the buffers on the way hold: the job ends at once, its output does not.
	mkfifo live
	"$build/jobvm" run -o out --allowed-execute-duration 2 -- \
		sh -c 'head -c 300000 /dev/zero; echo "the end"' >live &
	jobvm_pid=$!
	exec 7<live
	sleep 6
	[ "$(tail -c 8 <&7)" = "the end" ]
	end_job
	[ "$code" -eq 0 ]
	[ "$(report '.guest.time_wall < 2')" = true ]
}

@test "a job that dies of a signal gives 128 and the signal" {
	run --separate-stderr -139 jobvm run -o out -i "$build/guest-programs/segv" -- ./segv
	says "signal 11"
	[ "$(report .status)" = signaled ]
	[ "$(report .guest.exit_signal)" -eq 11 ]
}

@test "a command that is not there gives 127, one that cannot be executed 126" {
	run --separate-stderr -127 jobvm run -o out -- no-such-command
	says "no-such-command"
	[ "$(report .status)" = failed_to_start ]
	echo text >plain
	run --separate-stderr -126 jobvm run -i plain -- ./plain
	printf '#!/no/such/interpreter\n' >script
	chmod +x script
	run --separate-stderr -126 jobvm run -i script -- ./script
	says "interpreter"
}

@test "the time limit ends a job with 124" {
	run --separate-stderr -124 jobvm run -o out --allowed-execute-duration 3 -- sleep 100
	says "allowed_execute_duration"
	[ "$(report .status)" = timeout ]
	[ "$(report .guest.limit)" = time_limit_ms ]
	[ "$(report .guest.limit_requested)" -eq 3000 ]
	[ "$(report .guest.limit_observed)" -ge 3000 ]
}

@test "at the time limit the job gets its signal first, and what it then says is kept" {
	run --separate-stderr -124 jobvm run --allowed-execute-duration 2 --kill-sig USR1 -- \
		sh -c 'trap "echo bye; exit 0" USR1; while :; do sleep 1; done'
	prints bye
}

@test "a job that ignores its signal is killed after the grace" {
	run --separate-stderr -124 jobvm run -o out --allowed-execute-duration 1 \
		--job-max-vacate-time 2 -- sh -c 'trap "" TERM; while :; do sleep 1; done'
	[ "$(report '.guest.limit_observed >= 3000')" = true ]
}

@test "the job is user 'job' in /job, by wish root" {
	run --separate-stderr -0 jobvm run -- sh -c 'id -un; pwd; echo $HOME; echo x >/dev/null; touch new'
	prints $'job\n/job\n/job'
	run --separate-stderr -0 jobvm run --user root -- sh -c 'id -u; touch /etc/new && echo wrote'
	prints $'0\nwrote'
}

@test "environment: only what is asked for, and the job's id" {
	export SECRET=host
	run --separate-stderr -0 jobvm run -o out --env 'A=1 2' --env B=3 -- env
	[[ "$output" == *"A=1 2"* ]]
	[[ "$output" == *"B=3"* ]]
	[[ "$output" == *"JOBVM_JOB_ID=$(report .job_id)"* ]]
	[[ "$output" != *SECRET* ]]
}

@test "the job has the processors and the memory that it asks for" {
	run --separate-stderr -0 jobvm run --request-cpus 2 --request-memory 300M -- \
		sh -c 'nproc; cat /sys/fs/cgroup/memory.max'
	prints $'2\n314572800'
}

@test "in a pipe nothing is said but what the job says" {
	jobvm run -i "$root/README.md" -- cat README.md >copy 2>stderr
	cmp copy "$root/README.md"
	[ ! -s stderr ]
}

@test "on a terminal packing, booting and collecting show progress, with --quiet not" {
	export TERM=xterm
	script -qec "$build/jobvm run -o out --start cold -- echo hello" /dev/null >terminal
	grep -q 'booting: ' terminal
	grep -q hello terminal
	script -qec "$build/jobvm run --quiet -- echo hello" /dev/null >terminal
	[ "$(tr -d '\r' <terminal)" = hello ]
}

@test "Ctrl-C cancels a job, says so, and ends its VM" {
	own_qemu
	start_job -o out -- sh -c 'echo up; sleep 100000'
	own_qemu_pid
	kill -INT "$jobvm_pid"
	end_job
	[ "$code" -eq 130 ]
	[ "$(report .status)" = cancelled ]
	! own_qemu_pid
}

@test "a job whose output nobody reads any more ends" {
	own_qemu
	first=$(jobvm run -- yes | head -n 1)
	[ "$first" = y ]
	! own_qemu_pid
}

@test "a jobvm that is killed takes its VM with it and leaves nothing behind" {
	own_qemu
	start_job -- sh -c 'echo up; sleep 100000'
	qemu=$(own_qemu_pid)
	kill -KILL "$jobvm_pid"
	end_job
	[ "$code" -eq 137 ]
	# The kernel ends QEMU with its parent; tail waits for that.
	timeout 60 tail --pid="$qemu" -f /dev/null
	run ls -A
	prints $'live\nstderr'
}

@test "closed standard streams do not get into the job's files" {
	run --separate-stderr -6 bash -c '"$0" run -o out -- sh -c "echo out; echo err >&2; exit 6" <&- >&- 2>&-' "$build/jobvm"
	[ "$(cat out/stdout out/stderr)" = $'out\nerr' ]
	[ "$(report .status)" = completed ]
}

@test "a limit on file sizes is an error that names the file" {
	run --separate-stderr -125 bash -c 'ulimit -f 1000; "$0" run -- true' "$build/jobvm"
	says "File too large"
}

@test "without -o a run keeps nothing and says what it left behind" {
	run --separate-stderr -0 jobvm run -- sh -c 'echo 12345 >a; mkdir d; echo 1 >d/b'
	says "2 files (0.0 kB)"
	run ls -A
	prints ""
}

@test "--stdout and --stderr put the job's output into files" {
	run --separate-stderr -5 jobvm run --stdout o --stderr e --report r.json -- \
		sh -c 'echo out; echo err >&2; exit 5'
	[ -z "$output$stderr" ]
	[ "$(cat o e)" = $'out\nerr' ]
	[ "$(report .exit_code r.json)" -eq 5 ]
	run --separate-stderr -0 jobvm run --stdout /dev/null -- echo out
	[ -z "$output$stderr" ]
	[ -c /dev/null ]
}

@test "a result is never put in the place of a special file" {
	mkfifo pipe
	run --separate-stderr -125 jobvm run --stdout pipe -- true
	says "pipe: exists and is not a regular file"
	[ -p pipe ]
	run --separate-stderr -125 jobvm run --stderr no/such/dir/file -- true
	says "no/such/dir/file"
}

@test "a job that exits with its checkpoint code goes on from its files" {
	run --separate-stderr -4 jobvm run -o out --checkpoint-exit-code 9 -- sh -c '
		sleep 1000 &
		n=$(cat n 2>/dev/null || echo 0); echo run $n; echo $((n + 1)) >n; [ $n -eq 3 ] || exit 9; exit 4'
	prints $'run 0\nrun 1\nrun 2\nrun 3'
	[ "$(report .guest.checkpoints)" -eq 3 ]
	[ "$(cat out/output/n)" = 4 ]
}

@test "--usage shows what the job used" {
	run --separate-stderr -0 jobvm run --usage -- true
	says "s wall"
	says "MB memory"
}

@test "--verbose shows the guest's console" {
	run --separate-stderr -0 jobvm run --verbose --user root --privileged -- \
		sh -c 'echo "<1>for the console" >/dev/kmsg'
	says "for the console"
}

@test "an ordinary user runs jobs" {
	needs_root "to become an ordinary user"
	run --separate-stderr -7 setpriv --reuid 65534 --regid 65534 --clear-groups \
		env TMPDIR=/var/tmp "$build/jobvm" run -- sh -c 'echo out; exit 7'
	prints out
}
