# Job disks: packed, started, inspected and collected one after the other; and what is none.
load helper

@test "pack, start, inspect and collect give what run gives" {
	mkdir in
	echo data >in/data
	job=(sh -c 'echo out; echo err >&2; echo new >new; rm in/data; exit 4')
	run --separate-stderr -4 jobvm run -i in -o from-run -- "${job[@]}"
	run --separate-stderr -0 jobvm pack -i in -o job.img -- "${job[@]}"
	[ -z "$output$stderr" ]
	run --separate-stderr -4 jobvm start job.img
	prints out
	[ "$stderr" = err ]
	run --separate-stderr -0 jobvm collect -o from-disk job.img
	diff -r --exclude job.json from-run from-disk
	for result in from-run from-disk; do
		jq -S 'del(.. | .job_id?, .host?, .stage_timing?, .time_wall?, .time_user?, .time_system?,
			.memory_peak?, .io_read_bytes?, .io_write_bytes?, .processes_peak?, .collect_ms?)' $result/job.json >$result.json
	done
	diff from-run.json from-disk.json
}

# took COMMAND...: runs it, its milliseconds in $took_ms.
took() {
	local start=$EPOCHREALTIME
	"$@"
	took_ms=$(((${EPOCHREALTIME/./} - ${start/./}) / 1000 + 1))
}

@test "the report tells how long collecting took" {
	took jobvm run -o out --start cold -- true
	[ "$(report '.collect_ms | type, . >= 0')" = $'number\ntrue' ]
	# It begins when the VM has ended, and is over before the command.
	[ "$(report ".host.times.vm_ended_ms + .collect_ms <= $took_ms")" = true ]
	jobvm pack -o job.img -- true
	[ "$(jobvm inspect --json job.img | jq .collect_ms)" = null ]
	jobvm start job.img
	took jobvm collect -o out2 job.img
	[ "$(report '.collect_ms | type, . >= 0' out2/job.json)" = $'number\ntrue' ]
	[ "$(report ".collect_ms <= $took_ms" out2/job.json)" = true ]
	[ "$(jobvm inspect --json job.img | jq .collect_ms)" = null ]
}

@test "inspect works before and after the run, for people and as JSON" {
	jobvm pack -o job.img --allowed-execute-duration 60 -- sh -c 'echo x >new'
	run --separate-stderr -0 jobvm inspect job.img
	[[ "$output" == *"not run yet"* ]]
	[[ "$output" == *"60 s"* ]]
	[ "$(jobvm inspect --json job.img | jq -r .status)" = null ]
	[ "$(jobvm inspect --json job.img | jq -r .manifest.time_limit_ms)" -eq 60000 ]
	run --separate-stderr -125 jobvm collect -o out job.img
	says "not run yet"
	[ ! -e out ]
	jobvm start job.img
	run --separate-stderr -0 jobvm inspect job.img
	[[ "$output" == *"completed, exit code 0"* ]]
	[[ "$output" == *"created "*" new" ]]
	[ "$(jobvm inspect --json job.img | jq -r '.outputs.created[0].path')" = new ]
	[ "$(jobvm inspect --json job.img | jq -r .host.accelerator)" = tcg ]
}

@test "a job disk is started once" {
	jobvm pack -o job.img -- true
	jobvm start job.img
	run --separate-stderr -125 jobvm start job.img
	says "has run already"
}

@test "of two starts of one job disk the second is refused" {
	jobvm pack -o job.img -- sh -c 'echo up; sleep 100000'
	mkfifo live
	env --default-signal=INT "$build/jobvm" start job.img >live &
	jobvm_pid=$!
	exec 7<live
	read -r -u 7 first_line
	run --separate-stderr -125 jobvm start job.img
	says "another jobvm is running"
	run --separate-stderr -125 jobvm collect -o out job.img
	says "another jobvm is running"
	[ ! -e out ]
	kill -INT "$jobvm_pid"
	end_job
	[ "$code" -eq 130 ]
}

@test "the result of a run that failed is kept beside the disk" {
	jobvm pack -o job.img --user root --privileged -- sh -c 'echo c >/proc/sysrq-trigger; sleep 100'
	run --separate-stderr -125 jobvm start job.img
	[ "$(jobvm inspect --json job.img | jq -r .status)" = guest_panic ]
	run --separate-stderr -0 jobvm inspect job.img
	[[ "$output" == *guest_panic* ]]
	run --separate-stderr -125 jobvm collect -o out job.img
	says guest_panic
	[ "$(report .status)" = guest_panic ]
}

@test "a guest that changes its manifest gains nothing by it" {
	jobvm pack -o job.img --max-transfer-output-mb 1 -- true
	jobvm start job.img
	debugfs -R "dump manifest manifest" job.img 2>/dev/null
	sed -i '/^output_max_bytes=/d' manifest
	debugfs -w -R "rm manifest" job.img 2>/dev/null
	debugfs -w -R "write manifest manifest" job.img 2>/dev/null
	[ "$(jobvm inspect --json job.img | jq -r .status)" = invalid_result ]
	run --separate-stderr -125 jobvm collect -o out job.img
	says "/manifest: it is not the one that was started"
}

@test "a run that was cut off is incomplete, and is not started again" {
	jobvm pack -o job.img -- sh -c 'echo up; sleep 100000'
	kill_start
	run --separate-stderr -0 jobvm inspect job.img
	[[ "$output" == *"incomplete"*"cut off"* ]]
	[ "$(jobvm inspect --json job.img | jq -r .status)" = incomplete ]
	run --separate-stderr -125 jobvm start job.img
	says "pack the job again"
}

@test "a stream on the disk that is larger than its cap is not collected" {
	jobvm pack -o job.img --max-stdout 1000 -- echo out
	jobvm start job.img
	head -c 2000 /dev/zero >large
	debugfs -w -R "rm stdout" job.img 2>/dev/null
	debugfs -w -R "write large stdout" job.img 2>/dev/null
	run --separate-stderr -125 jobvm collect -o out job.img
	says "/stdout is larger"
	[ "$(report .outputs.partial)" = true ]
	[ ! -e out/stdout ]
}

@test "an existing job disk is not overwritten" {
	echo precious >job.img
	run --separate-stderr -125 jobvm pack -o job.img -- true
	says "exists already"
	[ "$(cat job.img)" = precious ]
}

@test "a file system without unnamed files will do" {
	[ -w /dev/fuse ] || skip "this host has no /dev/fuse"
	mkdir below bound
	bindfs below bound
	cd bound
	run --separate-stderr -0 jobvm pack -o job.img -- true
	run --separate-stderr -125 jobvm pack -o other.img -i missing -- true
	run ls -A
	cd ..
	umount bound
	prints job.img
}

@test "what a job disk has no place for is said" {
	run --separate-stderr -0 jobvm pack --max-retries 3 --stdout o -o job.img -- true
	says "'max_retries' is not kept"
	says "'output' is not kept"
	run --separate-stderr -0 jobvm pack --quiet --stdout o -o quiet.img -- true
	[ -z "$stderr" ]
}

@test "what is no job disk is refused by name" {
	jobvm pack -o job.img -- true
	: >zero
	head -c 1M /dev/urandom >noise
	head -c 1M /dev/zero >zeros
	head -c 100000 job.img >cut-early
	truncate -s -4096 job.img && cp --sparse=always job.img cut-late
	truncate -s 8M foreign
	mke2fs -q -t ext4 foreign
	truncate -s 8M labelled
	mke2fs -q -t ext4 -L JOBVM-JOB labelled
	cp "$image/root.img" root
	printf 'QFI\xfb\0\0\0\3' >qcow2
	truncate -s 1M qcow2
	mkdir directory
	for file in zero noise zeros cut-early cut-late foreign labelled root qcow2 directory /dev/null missing; do
		for command in start inspect "collect -o out"; do
			run --separate-stderr -125 jobvm $command "$file"
			says "$file"
			[ ! -e out ]
		done
	done
}

@test "a bad manifest is named by file, line and key" {
	jobvm pack -o job.img -- true
	debugfs -R "dump manifest manifest" job.img 2>/dev/null
	for edit in 's/^cpus=.*/cpus=none/' 's/^user=/usre=/' '/^version=/d' 's/true/%zz/'; do
		cp --sparse=always job.img bad.img
		sed "$edit" manifest >bad-manifest
		debugfs -w -R "rm manifest" bad.img 2>/dev/null
		debugfs -w -R "write bad-manifest manifest" bad.img 2>/dev/null
		run --separate-stderr -125 jobvm start bad.img
		says "bad.img: /manifest:"
	done
}

@test "a submit description runs as HTCondor would run it" {
	mkdir run
	echo 'b a' >run/words
	printf '#!/bin/sh\nread -r line; echo "$line"; echo "$1|$2|$GREETING"; tr " " "\\n" <words | sort >sorted; echo done >&2\n' >job.sh
	cat >job.sub <<-'SUB'
		# A comment
		executable = job.sh
		arguments = "one 'two words'"
		environment = "GREETING='hello world'"
		initialdir = run
		input = words
		transfer_input_files = words
		transfer_output_files = sorted
		output = out.txt
		error = err.txt
		log = job.log
		jobvm_report = job.json
		notification = never
		request_memory = 128M
		queue
	SUB
	run --separate-stderr -0 jobvm run job.sub
	says "notification"
	prints ""
	[ "$(cat run/out.txt)" = $'b a\none|two words|hello world' ]
	[ "$(cat run/err.txt)" = "done" ]
	[ "$(cat run/sorted)" = $'a\nb' ]
	grep -q '^005 .*Job terminated' run/job.log
	[ "$(report .status run/job.json)" = completed ]
}

@test "an output does not take the place of a FIFO in initialdir" {
	mkdir here
	mkfifo here/pipe
	printf 'executable = /bin/sh\ntransfer_executable = false\narguments = "-c '"'echo x >pipe'"'"\ninitialdir = here\nqueue\n' >job.sub
	run --separate-stderr -125 jobvm run job.sub
	says "here/pipe"
	[ -p here/pipe ]
	[ "$(report .outputs.partial here/job.json)" = true ]
}

@test "options of the command line have the last word on a submit description" {
	printf '#!/bin/sh\necho "$0 $* $A $B"\n' >one
	cp one other
	printf 'executable = one\narguments = a\nenvironment = "A=1 B=2"\nqueue\n' >job.sub
	jobvm pack -o job.img job.sub --arguments 'x y' --executable other --env B=3
	run --separate-stderr -0 jobvm start job.img
	prints "./other x y 1 3"
	run --separate-stderr -2 jobvm pack -o bad.img job.sub --privileged
	says "jobvm_user = root"
}

@test "the log ends with an event for whoever waits for the job" {
	run --separate-stderr -124 jobvm run --log log --allowed-execute-duration 1 -- \
		sh -c 'trap "exit 0" TERM; while :; do sleep 1; done'
	[ "$(grep -c '^\.\.\.$' log)" -eq 3 ]
	grep -q '^009 .*Job was aborted' log
	JOBVM_QEMU=$PWD/nothing run --separate-stderr -125 jobvm run --log log3 -- true
	grep -q '^009 ' log3
	run --separate-stderr -125 jobvm run --log log4 -i $'no\n005 (000' -- true
	[ "$(grep -c '^009 ' log4)" -eq 1 ]
	! grep -q '^005 ' log4
	run --separate-stderr -139 jobvm run --log log2 -i "$build/guest-programs/segv" -- ./segv
	grep -q 'Abnormal termination (signal 11)' log2
}

@test "a submit description can queue several jobs, and retry one that fails" {
	cat >many.sub <<-'SUB'
		executable = /bin/echo
		transfer_executable = false
		arguments = number $(Process)
		output = out.$(Process)
		queue 2
	SUB
	run --separate-stderr -0 jobvm run many.sub
	[ "$(cat out.0 out.1)" = $'number 0\nnumber 1' ]
	[ "$(report .status job.0.json) $(report .status job.1.json)" = "completed completed" ]
	run --separate-stderr -6 jobvm run --max-retries 1 -o out -- sh -c 'echo try; exit 6'
	prints $'try\ntry'
	[ "$(cat out/stdout)" = try ]
}

@test "the writer notes the overhead that the kernel would count and write at each mount" {
	overhead() {
		dumpe2fs -h job.img 2>/dev/null | awk '/^Overhead clusters:/ { print $3 }'
	}
	for disk in 20M 2G; do
		rm -f job.img
		jobvm pack -o job.img --request-disk $disk -- true
		noted=$(overhead)
		debugfs -w -R "set_super_value overhead_clusters 0" job.img
		jobvm start job.img
		[ "$noted" -gt 0 ]
		[ "$(overhead)" -eq "$noted" ]
	done
}
