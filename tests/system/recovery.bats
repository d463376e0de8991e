# A run that was cut off: a guest replays the disk's journal, and what there is comes back, marked.
load helper

# A job that has 500 lines on its disk for sure when it says so, and writes on.
write_on='seq 500 >lines; echo 42 >answer; rm in/old; sync; echo up; seq 501 100000000 >>lines'

# partial_in DIR: what such a job left, as it was or as far as it came. What the guest had given a
# place but not written yet is zeros.
partial_in() {
	[ "$(head -n 500 "$1/output/lines")" = "$(seq 500)" ]
	seq 100000000 | cmp -n "$(tr -d '\0' <"$1/output/lines" | wc -c)" - "$1/output/lines"
	[ "$(cat "$1/output/answer")" = 42 ]
	[ "$(report '.outputs.deleted[].path' "$1/job.json")" = in/old ]
	[ "$(report '.outputs | .partial, .partial_reason' "$1/job.json")" = \
		$'true\nthe job was not seen to end' ]
	[ "$(report .exit_code "$1/job.json")" -eq 125 ]
}

# recovered_as STATUS: what `run -o out` says of it.
recovered_as() {
	[ "$(report .status)" = "$1" ]
	[ "$(report .guest)" = null ]
	[ "$(report '.host | .clean_end, .recovery.tried, .recovery.succeeded')" = $'false\ntrue\ntrue' ]
	says "the outputs are partial"
	partial_in out
}

make_inputs() {
	mkdir in
	echo old >in/old
}

# Makes job.img the disk of a job whose `jobvm start` was killed.
cut_off() {
	make_inputs
	jobvm pack -i in -o job.img -- sh -c "$write_on"
	kill_start
	rm live
	cut_off_sha256=$(sha256sum job.img)
}

# Says of job.img what a kernel says of a disk that it has mounted: that its journal must be read.
mark_as_mounted() {
	printf '\106' | dd of=job.img bs=1 seek=1120 conv=notrunc status=none
	dumpe2fs -h job.img 2>/dev/null | grep -q needs_recovery
}

is_unchanged() {
	sha256sum --quiet --check <<<"$cut_off_sha256"
}

# directory_has NAME...: and nothing else, under any name; TMPDIR is here too.
directory_has() {
	diff <(ls -A) <(printf '%s\n' "$@" | sort)
}

@test "QEMU is killed while the job writes" {
	make_inputs
	own_qemu
	start_job -i in -o out -- sh -c "$write_on"
	kill -KILL "$(own_qemu_pid)"
	end_job
	[ "$code" -eq 125 ]
	stderr=$(cat stderr)
	recovered_as vmm_failed
	! own_qemu_pid
	directory_has in live out stderr
}

@test "the guest panics" {
	make_inputs
	run --separate-stderr -125 jobvm run -i in -o out --user root --privileged -- \
		sh -c "${write_on/;*sync;/; echo 42 >answer; rm in/old; sync; echo c >/proc/sysrq-trigger;}"
	recovered_as guest_panic
	directory_has in out
}

@test "the host ends a guest that is silent" {
	make_inputs
	own_qemu
	start_job -i in -o out --heartbeat-timeout 5 -- sh -c "$write_on"
	kill -STOP "$(own_qemu_pid)"
	end_job
	[ "$code" -eq 125 ]
	stderr=$(cat stderr)
	recovered_as unresponsive
	! own_qemu_pid
	directory_has in live out stderr
}

@test "jobvm is killed: collect reads a copy and leaves the disk as it is" {
	cut_off
	run --separate-stderr -0 jobvm inspect job.img
	[[ "$output" == *"incomplete"*"'jobvm collect'"*"'jobvm recover'"* ]]
	run --separate-stderr -0 jobvm inspect --json job.img
	[ "$(jq '.outputs, .host.recovery.tried' <<<"$output")" = $'null\nfalse' ]
	is_unchanged
	run --separate-stderr -125 jobvm collect -o out job.img
	recovered_as incomplete
	is_unchanged
	directory_has in job.img out
}

@test "jobvm recover makes a disk that inspect and collect read, as incomplete" {
	cut_off
	run --separate-stderr -0 jobvm recover -o new.img job.img
	is_unchanged
	directory_has in job.img new.img new.img.host.json
	chmod 640 job.img
	run --separate-stderr -0 jobvm recover job.img
	says "job.img is recovered"
	! is_unchanged
	[ "$(stat -c %a job.img)" = 640 ]
	directory_has in job.img job.img.host.json new.img new.img.host.json
	for disk in new.img job.img; do
		run --separate-stderr -0 jobvm inspect $disk
		[[ "$output" == *incomplete*partial*"created "*" answer"* ]]
		# Nothing is booted any more.
		JOBVM_QEMU=$PWD/nothing run --separate-stderr -125 jobvm collect -o out job.img
		recovered_as incomplete
		rm -r out
		run --separate-stderr -125 jobvm start $disk
		says "has been started before"
		run --separate-stderr -125 jobvm recover $disk
		says "nothing to recover"
	done
}

@test "a recovered disk without its notes is incomplete too, and is not started" {
	cut_off
	jobvm recover job.img
	rm job.img.host.json
	[ "$(jobvm inspect --json job.img | jq -r .status)" = incomplete ]
	run --separate-stderr -125 jobvm start job.img
	says "has been started before"
	run --separate-stderr -125 jobvm collect -o out job.img
	partial_in out
}

@test "start leaves a disk whose guest panicked, and collect keeps that verdict" {
	make_inputs
	jobvm pack -i in -o job.img --user root --privileged -- \
		sh -c "${write_on/up*/up; echo c >/proc/sysrq-trigger}"
	run --separate-stderr -125 jobvm start job.img
	says "'jobvm collect'"
	cut_off_sha256=$(sha256sum job.img)
	run --separate-stderr -125 jobvm collect -o out job.img
	recovered_as guest_panic
	is_unchanged
	jobvm recover job.img
	rm -r out
	run --separate-stderr -125 jobvm collect -o out job.img
	recovered_as guest_panic
}

@test "a whole record on a disk that was not unmounted is a claim and no success" {
	jobvm pack -o job.img --transfer-output-files answer -- sh -c 'echo 42 >answer'
	jobvm start job.img
	rm job.img.host.json
	mark_as_mounted
	run --separate-stderr -125 jobvm collect -o out job.img
	[ "$(report .status)" = incomplete ]
	[ "$(report .guest.status)" = completed ]
	[ "$(report .outputs.partial)" = true ]
	[ "$(cat out/output/answer)" = 42 ]
	jobvm recover job.img
	[ "$(jobvm inspect --json job.img | jq -r '.status, .exit_code, .guest.status')" = \
		$'incomplete\n125\ncompleted' ]
}

@test "a disk that the host saw unmounted and that is not is refused" {
	jobvm pack -o job.img -- true
	jobvm start job.img
	mark_as_mounted
	[ "$(jobvm inspect --json job.img | jq -r .status)" = invalid_result ]
	run --separate-stderr -125 jobvm recover job.img
	says "nothing to recover: invalid_result"
}

@test "a manifest that the guest changed is found in a recovered disk too" {
	jobvm pack -o job.img --user root --privileged --max-transfer-output-mb 1 -- \
		sh -c 'echo x >new; sync; echo c >/proc/sysrq-trigger'
	run --separate-stderr -125 jobvm start job.img
	jobvm recover job.img
	debugfs -R "dump manifest manifest" job.img 2>/dev/null
	sed -i '/^output_max_bytes=/d' manifest
	debugfs -w -R "rm manifest" job.img 2>/dev/null
	debugfs -w -R "write manifest manifest" job.img 2>/dev/null
	run --separate-stderr -125 jobvm collect -o out job.img
	says "/manifest: it is not the one that was started"
	[ "$(report .status)" = guest_panic ]
	[ "$(report .outputs)" = null ]
	[ ! -e out/output ]
}

@test "a cancelled job is not recovered, unless collect is asked" {
	start_job -o out -- sh -c 'echo x >new; sync; echo up; sleep 100000'
	kill -INT "$jobvm_pid"
	end_job
	[ "$code" -eq 130 ]
	[ "$(report .status,.outputs,.host.recovery)" = $'cancelled\nnull\nnull' ]
	rm -r out live
	jobvm pack -o job.img -- sh -c 'echo x >new; sync; echo up; sleep 100000'
	mkfifo live
	env --default-signal=INT "$build/jobvm" start job.img >live &
	jobvm_pid=$!
	exec 7<live
	read -r -u 7 first_line
	kill -INT "$jobvm_pid"
	end_job
	run --separate-stderr -125 jobvm collect -o out job.img
	[ "$(report .status,.outputs.partial)" = $'cancelled\ntrue' ]
	[ "$(cat out/output/new)" = x ]
}

@test "a VM that never wrote to the disk costs no recovery" {
	fake_qemu 'echo "$*" >&2' 'exit 3'
	run --separate-stderr -125 jobvm run -o out -- true
	[ "$(report '.outputs, .host.recovery')" = $'null\nnull' ]
	says "exit code 3"
}

# cannot_recover MESSAGE [OPTION]...: by no command; nothing is changed and nothing stays.
cannot_recover() {
	local message=$1
	shift
	run --separate-stderr -125 jobvm recover "$@" job.img
	says "job.img cannot be recovered: $message"
	run --separate-stderr -125 jobvm recover "$@" -o new.img job.img
	says "job.img cannot be recovered: $message"
	run --separate-stderr -125 jobvm collect "$@" -o out job.img
	says "job.img cannot be recovered: $message"
	[ "$(report .status)" = incomplete ]
	[ "$(report '.outputs, .host.recovery.succeeded')" = $'null\nfalse' ]
	is_unchanged
	directory_has job.img out
}

@test "a journal of garbage cannot be recovered" {
	jobvm pack -o job.img -- true
	mark_as_mounted
	block=$(debugfs -R "bmap <8> 0" job.img 2>/dev/null)
	head -c 4096 /dev/urandom | dd of=job.img bs=4096 seek="$block" conv=notrunc status=none
	cut_off_sha256=$(sha256sum job.img)
	cannot_recover "the guest's init gave up in stage mount_job_disk mount ext4"
}

@test "a disk that makes the guest's kernel panic cannot be recovered" {
	jobvm pack -o job.img -- true
	# errors=panic, and a root directory that is none.
	debugfs -w -R "ssv errors 3" job.img 2>/dev/null
	debugfs -w -R "sif <2> mode 0" job.img 2>/dev/null
	mark_as_mounted
	cut_off_sha256=$(sha256sum job.img)
	cannot_recover "the guest's kernel panicked"
}

@test "a guest that does not recover the disk, whatever it says, has an end" {
	jobvm pack -o job.img -- true
	mark_as_mounted
	cut_off_sha256=$(sha256sum job.img)
	hostile_vm 'say stage mount_job_disk; say unmounted' 'sleep 100000'
	cannot_recover "the guest left it as it was"
	rm -r out "$qemu_directory"
	hostile_vm 'while :; do say alive; sleep 0.1; done'
	cannot_recover "it took longer than 2.0 s" --boot-timeout 1 --heartbeat-timeout 1
	rm -r out "$qemu_directory"
	hostile_vm 'sleep 100000'
	cannot_recover "the guest said nothing for 1.0 s" --boot-timeout 1
	! pgrep -f "$qemu_directory/"
}

@test "an image whose PID 1 knows no recovery gets no leave to run the job" {
	jobvm pack -o job.img -- true
	mark_as_mounted
	cut_off_sha256=$(sha256sum job.img)
	hostile_vm 'say ready' 'read -r -t 3 -u $control hello; say "fatal make_unique ${hello:-no leave}"' 'say off' \
		'sleep 100000'
	cannot_recover "the guest's init gave up in stage make_unique no leave"
}

@test "there is no room for the copy" {
	needs_small_disk
	cut_off
	run --separate-stderr -125 small_disk 64k "$build/jobvm" collect -o out job.img
	says "No space left on device"
	[ "$(report '.status, .host.recovery.succeeded')" = $'incomplete\nfalse' ]
	is_unchanged
}
