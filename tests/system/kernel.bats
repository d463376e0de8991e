# The guest kernel, PID 1's size, and the time in a guest.
load helper

@test "PID 1 has at most 64 KiB, and a default root at most 3 MiB" {
	[ "$(stat -c %s "$build/init")" -le 65536 ]
	[ "$(stat -c %s "$image/root.img")" -le 3145728 ]
}

@test "the guest's clocks run as fast as the host's, also while the host is busy" {
	for worker in $(seq "$(nproc)"); do
		timeout 60 sh -c 'while :; do :; done' &
	done
	# Seconds of sleep, by the guest's clocks; by the host's it must be the same.
	mkfifo live
	"$build/jobvm" run -- sh -c 'read a _ </proc/uptime; echo; sleep 5; echo
		read b _ </proc/uptime; echo $a $b' >live &
	exec 7<live
	read -r -u 7 _ && start=$(date +%s%N)
	read -r -u 7 _ && end=$(date +%s%N)
	read -r -u 7 before after
	kill $(jobs -p) || true
	ms=$(((end - start) / 1000000))
	guest_ms=$(awk "BEGIN { printf \"%d\", ($after - $before) * 1000 }")
	echo "host: $ms ms; guest: $guest_ms ms"
	[ $((ms - guest_ms)) -lt 400 ] && [ $((guest_ms - ms)) -lt 400 ]
}

@test "a job can use what a kernel has" {
	run --separate-stderr -0 jobvm run --request-cpus 2 -- sh -c '
		[ "$(nproc)" -eq 2 ] || echo "not two processors"
		[ -e /dev/shm ] && [ -e /dev/mqueue ] && [ -e /dev/ptmx ] || echo "no devices"
		for name in ipc mnt net pid uts cgroup; do
			[ -e /proc/self/ns/$name ] || echo "no $name namespace"
		done
		for word in sysvipc/shm self/smaps self/coredump_filter sys/fs/aio-max-nr \
			sys/fs/inotify/max_user_watches sys/fs/mqueue/msg_max; do
			[ -e /proc/$word ] || echo "no /proc/$word"
		done
		echo end'
	prints end
}

@test "a job can call what a user land expects of its kernel" {
	for user in job root; do
		run --separate-stderr -0 jobvm run --user $user -i "$build/guest-programs/calls" -- ./calls
		prints ""
	done
}

# The size that was asked for is the job's: the kernel's own memory does not count, but must be
# there. Page tables and the program itself do count, hence a little less than the limit.
@test "a job can fill its memory limit, and not more, whatever the limit is" {
	for mib in 8 64 512; do
		run --separate-stderr -0 jobvm run --request-memory ${mib}M \
			-i "$build/guest-programs/fill" -- ./fill $((mib * 1024 - mib * 2 - 1024))
		prints filled
		run --separate-stderr -137 jobvm run -o "out-$mib" --request-memory ${mib}M \
			-i "$build/guest-programs/fill" -- ./fill $((mib * 1024))
		[ "$(report .status "out-$mib/job.json")" = out_of_memory ]
		[ "$(report ".guest.limit_observed > $mib * 1000000" "out-$mib/job.json")" = true ]
	done
}

@test "the tuned kernel runs a job in a VM of 48 MiB" {
	[ "$(jq -r .machine "$image/image.json")" = microvm ] || skip "the stock kernel needs more"
	# A QEMU that has no more memory than that.
	fake_qemu 'for word; do' '[ "$last" != -m ] || size=${word%M}' 'last=$word' done \
		'[ "$size" -le 48 ] || { echo "$size MiB"; exit 1; }' 'exec qemu-system-x86_64 "$@"'
	run --separate-stderr -3 jobvm run --request-memory 8M -- sh -c 'echo ran; exit 3'
	prints ran
}

@test "a VM has memory of its own for each of its processors" {
	fake_qemu 'for word; do' '[ "$last" != -m ] || echo "memory: $word"' 'last=$word' done
	sizes=()
	for cpus in 1 64; do
		run --separate-stderr -125 jobvm run --accel tcg --request-cpus $cpus -- true
		[[ "$stderr" =~ memory:\ ([0-9]+)M ]]
		sizes+=("${BASH_REMATCH[1]}")
	done
	[ $((sizes[1] - sizes[0])) -eq 63 ]
}
