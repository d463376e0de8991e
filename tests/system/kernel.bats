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
