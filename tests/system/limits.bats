# A job gets what it was given, and no more.
load helper

@test "a job that allocates without end is out_of_memory, with limit and peak" {
	run --separate-stderr -137 jobvm run -o out --request-memory 64M -- \
		sh -c 'x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done'
	says "request_memory"
	[ "$(report .status)" = out_of_memory ]
	[ "$(report .guest.limit)" = memory_limit_bytes ]
	[ "$(report .guest.limit_requested)" -eq 67108864 ]
	[ "$(report '.guest.limit_observed > 60000000')" = true ]
	[ "$(report .guest.oom_killed)" = true ]
}

@test "a tmpfs counts as the job's memory" {
	run --separate-stderr -137 jobvm run -o out --request-memory 64M -- \
		dd if=/dev/zero of=/dev/shm/big bs=1M count=200
	[ "$(report .status)" = out_of_memory ]
}

@test "a fork bomb meets the process limit, and the VM ends by itself" {
	run --separate-stderr jobvm run -o out --max-processes 64 --allowed-execute-duration 10 -- \
		sh -c 'bomb() { bomb | bomb & }; bomb; while :; do :; done'
	[ "$status" -eq 124 ]
	[ "$(report .host.clean_end)" = true ]
	[ "$(report .guest.processes_peak)" -eq 64 ]
}

@test "the process limit shows in the report of a job that met it" {
	run --separate-stderr -2 jobvm run -o out --max-processes 4 -- \
		sh -c 'for i in 1 2 3 4 5 6; do sleep 100 & done 2>/dev/null'
	[ "$(report .guest.limit)" = processes_max ]
	[ "$(report .guest.limit_requested)" -eq 4 ]
}

@test "10 GB of stdout leave a capped file, and the job goes on" {
	# The other kernel's pipes need not be as long for that.
	local mib=10240
	[ "$image" = "$build/image" ] || mib=1024
	run --separate-stderr jobvm run -o out --max-stdout 1M -- \
		sh -c 'dd if=/dev/zero bs=1M count=$0 2>/dev/null; echo end >&2; exit 5' "$mib" >/dev/null
	[ "$status" -eq 5 ]
	says "cut off at 1048576 bytes"
	[ "$(stat -c %s out/stdout)" -eq 1048576 ]
	[ "$(cat out/stderr)" = end ]
	[ "$(report .guest.stdout_bytes)" -eq $((mib << 20)) ]
	[ "$(report .guest.stdout_truncated)" = true ]
	# The host's disk held no more than the cap and a little.
	[ "$(du -sk . | cut -f1)" -lt 4096 ]
}

@test "with output_overflow=kill too much output is output_limit" {
	run --separate-stderr -137 jobvm run -o out --max-stdout 10K --output-overflow kill -- \
		sh -c 'yes'
	[ "$(report .status)" = output_limit ]
	[ "$(report .guest.limit)" = stdout_max_bytes ]
}

@test "a job that fills its disk gets ENOSPC, and its record is committed" {
	for user in job root; do
		run --separate-stderr -0 jobvm run -o "out-$user" --user $user --request-disk 100M -- sh -c '
			said=$(dd if=/dev/zero of=big bs=1M 2>&1)
			i=0; while true >small$i; do i=$((i+1)); done 2>/dev/null
			echo "$said" | grep -o "No space left on device"; rm -f small* big'
		prints "No space left on device"
		[ "$(report .status out-$user/job.json)" = completed ]
		[ "$(cat out-$user/stdout)" = "No space left on device" ]
	done
}

@test "a job that leaves its disk full still has its stdout and record" {
	run --separate-stderr -0 jobvm run -o out --request-disk 50M \
		--transfer-output-files '""' -- sh -c '
		dd if=/dev/zero of=/tmp/big bs=1M 2>/dev/null; dd if=/dev/zero of=big bs=4k 2>/dev/null
		seq 1 100000'
	seq 1 100000 | cmp - out/stdout
	[ "$(report .status)" = completed ]
}

@test "processes that a job leaves behind do not outlive it or delay its end" {
	run --separate-stderr -3 jobvm run -o out --job-max-vacate-time 10000 -- \
		sh -c 'sleep 100000 & (trap "" TERM INT HUP; setsid sleep 100000) & exit 3'
	[ "$(report '.guest.time_wall < 100')" = true ]
	[ "$(report .host.clean_end)" = true ]
}

@test "allowed_job_duration is a limit too" {
	run --separate-stderr -124 jobvm run -o out --allowed-job-duration 6 -- sleep 1000
	[ "$(report .status)" = timeout ]
	says "allowed_job_duration is 6.000 s"
}
