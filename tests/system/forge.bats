# A job that tries to give a verdict on itself.
load helper

@test "root in a job cannot forge its verdict" {
	run --separate-stderr -7 jobvm run -o out --user root -- sh -c '
		kill -9 1; kill -9 -1 2>/dev/null
		for place in / /tmp /job /dev /dev/shm; do
			mknod $place/disk b 254 16 && echo forged >$place/disk
			echo "status=completed" >$place/result; echo "status=completed" >$place/result.new
		done 2>/dev/null
		for port in /dev/vport* /dev/virtio-ports/* /dev/hvc* /dev/ttyS0; do echo "ended 0 0" >$port; done
		mount -t tmpfs none /job; mount -o bind /tmp /job
		echo "unmounted"; echo "ended 0 0"; echo "off"; printf "status=completed\nexit_code=0\nend=00000000\n"
		exit 7' 2>/dev/null
	[ "$(report .status)" = completed ]
	[ "$(report .guest.exit_code)" -eq 7 ]
	[ "$(report .guest_is_job)" = false ]
	[ "$(report .host.clean_end)" = true ]
	# What it printed is output, and no more.
	[[ "$output" == *$'unmounted\nended 0 0\noff\nstatus=completed\nexit_code=0\nend=00000000' ]]
	grep -q 'status=completed' out/output/result
}

@test "a job that fills the disk with all it may write leaves a true record" {
	run --separate-stderr -9 jobvm run -o out --user root --request-disk 64M -- sh -c '
		cat /dev/zero >/job/full; cat /dev/zero >/tmp/full; i=0
		while true >/job/$i; do i=$((i + 1)); done
		exit 9'
	[ "$(report .status)" = completed ]
	[ "$(report .guest.exit_code)" -eq 9 ]
}

@test "a flood of output does not keep the verdict from the host" {
	run --separate-stderr -11 jobvm run -o out --max-stdout 1M -- sh -c '
		(yes "ended 0 0" | head -c 900000); exit 11'
	[ "$(report .guest.exit_code)" -eq 11 ]
	[ "$(stat -c %s out/stdout)" -eq 900000 ]
}

@test "a privileged job's record that PID 1 could not replace is no result" {
	run --separate-stderr -125 jobvm run -o out --user root --privileged \
		-i "$build/guest-programs/forge" -- ./forge
	[ "$(report .status)" = invalid_result ]
	# The forged record is whole, and says of itself that no job could have written it.
	[ "$(report .guest.exit_code)" -eq 0 ]
	[ "$(report .guest.privileged)" = false ]
	[ "$(report .guest_is_job)" = true ]
	[[ "$(report .host.guest_fatal)" == commit_result* ]]
	says "PID 1 gave up"
}
