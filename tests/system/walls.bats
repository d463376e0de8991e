# What no job may do in its guest, and what QEMU may not do on its host.
load helper

attempts() {
	grep -c '^	{"' "$root/tests/system/guest/walls.c"
}

@test "every wall holds for a job" {
	run --separate-stderr -0 jobvm run -i "$build/guest-programs/walls" -- ./walls
	[ "$(grep -c '^held: ' <<<"$output")" -eq "$(attempts)" ]
}

@test "every wall holds for root in a job" {
	run --separate-stderr -0 jobvm run --user root -i "$build/guest-programs/walls" -- ./walls
	[ "$(grep -c '^held: ' <<<"$output")" -eq "$(attempts)" ]
}

@test "a privileged job breaks them, and the report says that it was one" {
	run --separate-stderr jobvm run -o out --user root --privileged \
		-i "$build/guest-programs/walls" -- ./walls
	# The tuned kernel lacks what some attempts are about.
	[ "$status" -ge 15 ]
	[[ "$output" == *"BREACHED: make a block device"* ]]
	[[ "$output" == *"BREACHED: set the clock"* ]]
	[ "$(jq '.modules | length' "$image/image.json")" -eq 0 ] ||
		[[ "$output" == *"BREACHED: load a module"* ]]
	[ "$(report .guest.privileged)" = true ]
	[ "$(report .manifest.privileged)" = true ]
}

@test "a job finds neither its disk nor its result record" {
	run --separate-stderr -0 jobvm run --user root -- sh -c '
		find / -xdev \( -name result -o -name result.new -o -name manifest \) 2>/dev/null
		find /dev -type b; ls /jobdisk /image /newroot 2>/dev/null
		cat /proc/mounts | cut -d" " -f1 | grep ^/dev; echo end'
	prints end
}

@test "process 1 of a job is not the guest's" {
	run --separate-stderr -0 jobvm run --user root -- sh -c 'ls -d /proc/[0-9]* | wc -l; echo $$'
	# Its own init, the shell, ls and wc.
	[ "${lines[0]}" -le 4 ]
	[ "${lines[1]}" -eq 2 ]
}

@test "set-user-ID programs give a job nothing" {
	run --separate-stderr -0 jobvm run -- sh -c 'grep NoNewPrivs /proc/self/status'
	prints $'NoNewPrivs:\t1'
}

@test "a job has the devices that it should have" {
	run --separate-stderr -0 jobvm run -- sh -c '
		for n in null zero full random urandom tty ptmx; do [ -c /dev/$n ] || echo $n missing; done
		[ -d /dev/pts ] || echo pts missing
		echo x >/dev/null; head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c
		find /dev -type c | wc -l'
	prints $'3\n3\n7'
}

@test "root of a user's own namespace runs jobs, and QEMU has none of its rights" {
	needs_root "to become an ordinary user"
	own_qemu
	mkfifo live
	setpriv --reuid 65534 --regid 65534 --clear-groups env --default-signal=INT TMPDIR=/var/tmp \
		unshare --user --map-root-user "$build/jobvm" run -- sh -c 'echo up; sleep 100000' \
		>live 2>stderr &
	jobvm_pid=$!
	exec 7<live
	read -r -u 7 first_line
	cat "/proc/$(own_qemu_pid)/status" >status
	kill -INT "$jobvm_pid"
	end_job
	[ "$first_line" = up ]
	grep -qP '^NoNewPrivs:\t1$' status
	grep -qP '^CapEff:\t0+$' status
	grep -qP '^CapPrm:\t0+$' status
}

@test "QEMU runs without privileges, filtered, and with the descriptors that it needs" {
	own_qemu
	start_job -- sh -c 'echo up; sleep 100000'
	qemu=$(own_qemu_pid)
	cat "/proc/$qemu/status" >status
	ls -l "/proc/$qemu/fd" >fds
	namespace=$(readlink "/proc/$qemu/ns/net")
	cat "/proc/$qemu/net/tcp" "/proc/$qemu/net/udp" "/proc/$qemu/net/raw" "/proc/$qemu/net/packet" >net
	for task in "/proc/$qemu/task/"*; do grep -H Seccomp: "$task/status"; done >threads
	kill -INT "$jobvm_pid"
	end_job

	! grep -v 'Seccomp:.*2$' threads
	grep -qP '^NoNewPrivs:\t1$' status
	grep -qP '^CapEff:\t0+$' status
	grep -qP '^CapPrm:\t0+$' status
	if [ "$(id -u)" -eq 0 ]; then
		! grep -qP '^Uid:.*\t0\t' status
		! grep -qP '^Gid:.*\t0\t' status
		grep -qP '^Groups:\t *$' status
	fi
	if [ "$(id -u)" -eq 0 ]; then
		[ "$namespace" != "$(readlink /proc/self/ns/net)" ]
	fi
	# Nothing but: null, the log's and ports' sockets, event descriptors, kernel, root, job disk; a
	# clone's memory and what makes it open that.
	awk '/->/ { sub(/.*-> /, ""); print }' fds | grep -vE \
		"^(/dev/null|socket:\[[0-9]+\]|anon_inode:\[(eventfd|eventpoll|signalfd|io_uring|timerfd)\]|$image/(kernel|initrd|root.img)|$TMPDIR/#[0-9]+ \(deleted\)|$build/libjobvm-readonly\.so|$XDG_CACHE_HOME/jobvm/templates/[0-9a-f]{64}/memory)$" && return 1
	# None of its sockets is one of the network.
	for inode in $(grep -oP 'socket:\[\K[0-9]+' fds); do
		! grep -qw "$inode" net
	done
}

@test "QEMU's files are read-only but for the job disk" {
	own_qemu
	start_job -- sh -c 'echo up; sleep 100000'
	qemu=$(own_qemu_pid)
	for fd in "/proc/$qemu/fd/"*; do
		target=$(readlink "$fd")
		case $target in
		"$build"/* | */templates/*) awk '$1 == "flags:" { exit $2 % 4 }' "/proc/$qemu/fdinfo/${fd##*/}" || echo "$target" ;;
		esac
	done >writable
	kill -INT "$jobvm_pid"
	end_job
	[ ! -s writable ]
}
