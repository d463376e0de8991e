# Whatever is killed, and whatever cannot be read or written: never a success that is none.
# CRASH_COUNT: how many kills of each kind; the seed is printed.
load helper

storm() {
	run -0 $hang_guard "$BATS_TEST_DIRNAME/crash-storm" "$1" "${CRASH_COUNT:-8}"
	echo "# ${lines[-1]}" >&3
}

@test "QEMU is killed at random moments" { storm qemu; }
@test "the reader of the disk is killed at random moments" { storm reader; }
@test "jobvm run is killed at random moments" { storm jobvm; }
@test "jobvm run and its QEMU are killed at random moments" { storm both; }
@test "jobvm start is killed at random moments" { storm start; }
@test "jobvm collect is killed at random moments" { storm collect; }

# --- children that are cut off ---

@test "a reader that is killed in the middle of a file leaves nothing of it" {
	jobvm pack -o job.img -- sh -c 'echo 1 >first; head -c 4000000 /dev/urandom >second'
	jobvm start job.img
	# The signal of a file that grows beyond the limit ends the process.
	run --separate-stderr -125 bash -c 'ulimit -f 1000; "$0" collect -o out job.img' "$build/jobvm"
	says "its reader was ended by signal 25"
	[ "$(report .outputs.partial)" = true ]
	[ "$(ls -A out out/output)" = "$(printf '%s\n' out: job.json output stderr stdout '' \
		out/output: first)" ]
	[ "$(cat out/output/first)" = 1 ]
}

@test "a signal while results are collected: what is there is whole and said to be partial" {
	jobvm pack -o job.img -- sh -c 'for i in $(seq 3000); do echo "$i" >"$i"; done'
	jobvm start job.img
	"$build/jobvm" collect -o out job.img 2>stderr &
	local jobvm=$!
	until [ -n "$(ls out/output 2>/dev/null)" ]; do :; done
	pkill -STOP -P "$jobvm"
	kill -TERM "$jobvm"
	local code=0
	wait "$jobvm" || code=$?
	[ "$code" -eq 143 ]
	grep -F "collecting the results: cancelled by signal 15 (Terminated)" stderr
	[ "$(report .outputs.partial)" = true ]
	[ "$(report .exit_code)" -eq 143 ]
	[ -z "$(find out -name '.*')" ]
	[ "$(ls out/output | wc -l)" -lt 3000 ]
	for i in $(ls out/output); do
		[ "$(cat "out/output/$i")" = "$i" ] || fail "$i"
	done
}

# --- what QEMU cannot read or write ---

# faulty_qemu RULES: one whose job disk has blkdebug between (QEMU's docs/devel/blkdebug.rst), and
# gets the guest's flushes too.
faulty_qemu() {
	fake_qemu "rules='$1'" \
		'for argument; do' \
		'	shift' \
		'	case $argument in *node-name=job,*)' \
		'		argument=$(echo "$argument" | sed "s/,cache.no-flush=on//; s/,file.cache.no-flush=on//' \
		'			s/file.driver=file,file.filename=/file.driver=blkdebug,$rules,file.image.driver=file,file.image.filename=/' \
		'			s/file.locking/file.image.locking/") ;;' \
		'	esac' \
		'	set -- "$@" "$argument"' \
		'done' \
		'exec /usr/bin/qemu-system-x86_64 "$@"'
}

# after N EVENT ERRNO ONCE: rules by which the EVENT after N others fails.
after() {
	local i
	for ((i = 0; i < $1; i++)); do
		printf 'file.set-state.%d.event=%s,file.set-state.%d.state=%d,file.set-state.%d.new_state=%d,' \
			"$i" "$2" "$i" $((i + 1)) "$i" $((i + 2))
	done
	printf 'file.inject-error.0.event=%s,file.inject-error.0.state=%d,' "$2" $(($1 + 1))
	printf 'file.inject-error.0.errno=%d,file.inject-error.0.once=%s' "$3" "$4"
}

writing_job='seq 1 5000 >a; sync; seq 1 9000 >b; sync; seq 1 1000; exit 7'

fails_by_disk() {
	run --separate-stderr -125 jobvm run -o out -- sh -c "$writing_job"
	says "could not write the VM's disk: $1"
	[ "$(report .status)" = vmm_failed ]
	[ "$(report .exit_code)" -eq 125 ]
	[ "$(report .host.disk_errors)" -ge 1 ]
	rm -r out "$qemu_directory"
}

@test "the job disk with nothing injected between works as always" {
	faulty_qemu file.align=512
	run --separate-stderr -7 jobvm run -o out -- sh -c "$writing_job"
	cmp out/output/b <(seq 1 9000)
	[ "$(report .host.disk_errors)" -eq 0 ]
}

@test "a write of the job disk fails: EIO and ENOSPC, once and for good, sooner and later" {
	for case in "0 5 on" "2 28 on" "6 5 off" "12 28 on"; do
		read -r count errno once <<<"$case"
		faulty_qemu "$(after "$count" write_aio "$errno" "$once")"
		fails_by_disk "$([ "$errno" -eq 5 ] && echo "Input/output error" || echo "No space left")"
	done
}

@test "a flush of the job disk fails: EIO and ENOSPC, sooner and later" {
	for case in "0 5 on" "2 28 off" "3 5 on"; do
		read -r count errno once <<<"$case"
		faulty_qemu "$(after "$count" flush_to_disk "$errno" "$once")"
		fails_by_disk "$([ "$errno" -eq 5 ] && echo "Input/output error" || echo "No space left")"
	done
}

@test "a read of the job disk fails" {
	faulty_qemu "$(after 3 read_aio 5 on)"
	run --separate-stderr -125 jobvm run -o out -- sh -c "$writing_job"
	says "could not read the VM's disk: Input/output error"
	[ "$(report .status)" = vmm_failed ]
}

# --- what jobvm cannot write ---

# failing CALL NAME COMMAND...: jobvm, whose CALLs fail on files with NAME in theirs.
failing() {
	local call=$1 name=$2
	shift 2
	FAIL_CALL=$call FAIL_NAME=$name LD_PRELOAD=$build/preload/fail-io.so "$build/jobvm" "$@"
}

@test "job.json that cannot be written is 125, not the job's code" {
	for call in write fsync close rename; do
		run --separate-stderr -125 failing "$call" job.json run -o out -- sh -c 'echo 1 >a; exit 7'
		says "write out/job.json: Input/output error"
		[ "$(ls -A out)" = "$(printf '%s\n' output stderr stdout)" ]
		rm -r out
	done
}

@test "results that cannot be written are 125, with a report that says partial" {
	jobvm pack -o job.img -- sh -c 'echo 1 >first; seq 1 9000 >second; echo 1 >third; echo out'
	jobvm start job.img
	for call in write close rename; do
		for name in second stdout; do
			run --separate-stderr -125 failing "$call" "$name" collect -o out job.img
			says "Input/output error"
			[[ "$stderr" == *[\ /]"$name: Input"* ]]
			[ "$(report .outputs.partial)" = true ]
			[ "$(report .exit_code)" -eq 125 ]
			[ -z "$(find out -name '.*' -o -name "$name" ! -empty)" ]
			rm -r out
		done
	done
	run --separate-stderr -125 failing syncfs "" collect -o out job.img
	says "sync out: Input/output error"
	[ "$(report .outputs.partial)" = true ]
}

@test "the job's output that cannot be written is 125, and said" {
	run --separate-stderr -125 bash -c '"$0" run -- echo hi >/dev/full' "$build/jobvm"
	says "cannot write the job's stdout: No space left on device"
	run -125 bash -c '"$0" run -- sh -c "echo hi >&2" 2>/dev/full' "$build/jobvm"
	# The same when the job writes on, and in what would be a pipeline's success.
	run --separate-stderr -125 bash -c '"$0" run -- seq 1 1000000 >/dev/full' "$build/jobvm"
	says "cannot write the job's stdout: No space left on device"
}

# full FREE_KIB COMMAND...: runs it with `small` on a file system of which so much is free.
full() {
	local free=$1
	shift
	small_disk 2m sh -c 'free=$0; dd if=/dev/zero of=small/filler bs=1k count=$((2048 - free)) \
		2>/dev/null; "$@"; code=$?; rm small/filler; cp -r small after; exit $code' "$free" "$@"
}

@test "a log whose last event cannot be written is 125" {
	needs_small_disk
	printf '%s\n' 'executable = /bin/true' 'transfer_executable = false' 'log = small/log' \
		'jobvm_report = /dev/null' queue >job.sub
	mkdir small
	jobvm run job.sub
	before=$(grep -bo "^005" small/log | cut -d: -f1)
	# The first two events fit into the log's last page.
	run --separate-stderr -125 full 4 sh -c 'head -c "$0" /dev/zero >small/log; TMPDIR=. exec "$@"' \
		$((4096 - before - 10)) "$build/jobvm" run job.sub
	says "write the log"
	grep -q "^001 " after/log
}

@test "an output directory that is full: outputs, stdout and job.json" {
	needs_small_disk
	# Outputs do not fit.
	run --separate-stderr -125 full 200 env TMPDIR="$PWD" "$build/jobvm" run -o small/out -- \
		sh -c 'echo 1 >a; head -c 1000000 /dev/zero | tr "\0" x >big; exit 7'
	says "small/out/output/big: the file system that it is on is full"
	[ ! -e after/out/job.json ] || [ "$(report .outputs.partial after/out/job.json)" = true ]
	[ ! -e after/out/output/big ] && [ -z "$(find after -name '.*')" ]
	rm -r after
	# All but the report fit.
	run --separate-stderr -125 full 4 env TMPDIR="$PWD" "$build/jobvm" run -o small/out -- \
		sh -c 'echo 1 >a; exit 7'
	says "small/out/job.json: No space left on device"
	[ "$(ls -A after/out)" = "$(printf '%s\n' output stderr stdout)" ]
	rm -r after
	run --separate-stderr -125 full 200 env TMPDIR="$PWD" "$build/jobvm" run --stdout small/all -- \
		seq 1 100000
	says "small/all: the file system that it is on is full"
	# What came of it is its beginning.
	[ "$(stat -c %s after/all)" -gt 4096 ]
	cmp -n "$(stat -c %s after/all)" after/all <(seq 1 100000)
}

@test "a submission's initialdir that is full" {
	needs_small_disk
	printf '%s\n' 'executable = /bin/sh' 'transfer_executable = false' \
		'arguments = "-c '"'head -c 1000000 /bin/busybox >big'"'"' 'initialdir = small' queue >job.sub
	run --separate-stderr -125 full 200 env TMPDIR="$PWD" "$build/jobvm" run job.sub
	says "small/big: the file system that it is on is full"
	[ ! -e after/job.json ] || [ "$(report .outputs.partial after/job.json)" = true ]
	[ ! -e after/big ] && [ -z "$(find after -name '.*')" ]
}

@test "a TMPDIR that is full is said, and no job runs" {
	needs_small_disk
	head -c 1000000 /dev/urandom >input
	run --separate-stderr -125 full 300 "$build/jobvm" run -o out -i input -- true
	says "small: the file system that it is on is full"
	[ ! -e out ]
	rm -r after
	run --separate-stderr -125 full 300 "$build/jobvm" pack -o small/job.img -i input -- true
	says "small/job.img: the file system that it is on is full"
	[ -z "$(ls -A after)" ]
}

@test "live output that did not come is not a success" {
	fake_qemu 'for word; do case $word in socket,id=jobvm.control,fd=*) fd=${word##*=} ;; esac; done' \
		'bash -c "printf \"ended 10 0\nunmounted\n\" >&$fd"'
	run --separate-stderr -125 jobvm run -o out -- echo 123456789
	says "before all of its output had come"
}
