# What every system test stands on. Each test runs in an empty directory of its own.
bats_require_minimum_version 1.5.0

root=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
build=$(cd "${B:-$root/build}" && pwd)

# The guest image under test.
image=$(cd "${JOBVM_IMAGE:-$build/image}" && pwd)
[ -z "${JOBVM_IMAGE:-}" ] || export JOBVM_IMAGE=$image

setup() {
	mkdir "$BATS_TEST_TMPDIR/work"
	cd "$BATS_TEST_TMPDIR/work"
	export TMPDIR=$PWD XDG_CACHE_HOME=$BATS_RUN_TMPDIR
}

teardown() {
	rm -rf ${qemu_directory:+"$qemu_directory"} ${user_directory:+"$user_directory"}
}

# A test that hangs has failed; nothing here takes nearly as long.
hang_guard="timeout --foreground 600"

jobvm() {
	$hang_guard "$build/jobvm" "$@"
}

# Ends a test that needs root for the thing itself.
needs_root() {
	[ "$(id -u)" -eq 0 ] || skip "needs root: $1"
}

# report FILTER [FILE]: a value of job.json.
report() {
	jq -r "$1" "${2:-out/job.json}"
}

# says TEXT: the last command's stderr has it.
says() {
	if [[ "$stderr" != *"$1"* ]]; then
		echo "stderr does not say '$1': $stderr"
		return 1
	fi
}

# prints TEXT: the last command's stdout is it.
prints() {
	if [ "$output" != "$1" ]; then
		echo "stdout is not '$1': $output"
		return 1
	fi
}

# use_qemu FILE: makes jobvm run it as its QEMU, under a name that no other test's has. Root's
# jobvm runs it as another user, who must be able to reach it.
use_qemu() {
	qemu_directory=$(mktemp -d /tmp/jobvm-qemu.XXXXXX)
	chmod 755 "$qemu_directory"
	export JOBVM_QEMU=$qemu_directory/qemu
	ln -s "$1" "$JOBVM_QEMU"
}

own_qemu() {
	use_qemu "$(command -v qemu-system-x86_64)"
}

own_qemu_pid() {
	pgrep -f "^$JOBVM_QEMU "
}

# fake_qemu LINE...: a shell script.
fake_qemu() {
	printf '%s\n' '#!/bin/sh' "$@" >fake-qemu
	use_qemu fake-qemu
	mv fake-qemu "$qemu_directory"
	chmod 755 "$qemu_directory/fake-qemu"
}

# hostile_vm LINE...: bash in which $control, $out and $err are the VM's ends of the ports.
hostile_vm() {
	printf '%s\n' '#!/bin/bash' \
		'port() { printf "%s\n" "$@" | sed -n "s/^socket,id=jobvm\.$name,fd=//p"; }' \
		'name=control; control=$(port "$@"); name=stdout; out=$(port "$@"); name=stderr; err=$(port "$@")' \
		'say() { echo "$*" >&$control; }' "$@" >vm
	use_qemu vm
	mv vm "$qemu_directory"
	chmod 755 "$qemu_directory/vm"
}

# start_job [OPTION]... -- COMMAND: runs it in the background, its stdout in the fifo `live` that
# is open as descriptor 7; returns when the job has printed its first line. What a shell starts
# in the background ignores SIGINT, hence env.
start_job() {
	mkfifo live
	env --default-signal=INT "$build/jobvm" run "$@" >live 2>stderr &
	jobvm_pid=$!
	exec 7<live
	read -r -u 7 first_line
}

# Waits for it; its exit code in $code.
end_job() {
	code=0
	wait "$jobvm_pid" || code=$?
	exec 7<&-
}

# kill_start: runs `jobvm start job.img` and kills it when the job has printed its first line.
kill_start() {
	mkfifo live
	"$build/jobvm" start job.img >live &
	jobvm_pid=$!
	exec 7<live
	read -r -u 7 first_line
	kill -KILL "$jobvm_pid"
	end_job
	# Its QEMU, which dies with it, may still have the disk.
	flock job.img true
}

# A mount namespace; a user has it with a user namespace, where the host allows that.
own_mounts=(unshare --mount)
[ "$(id -u)" -eq 0 ] || own_mounts+=(--map-root-user)

needs_small_disk() {
	"${own_mounts[@]}" true || skip "this host does not let its user mount"
}

# small_disk SIZE COMMAND...: runs it with TMPDIR, and the directory `small`, on a file system of
# that size.
small_disk() {
	local size=$1
	shift
	mkdir -p small
	TMPDIR=$PWD/small $hang_guard "${own_mounts[@]}" sh -c '
		mount -t tmpfs -o size="$0",mode=777 tmpfs small && exec "$@"' "$size" "$@"
}

# An ordinary user: who runs the tests, or for root nobody.
as_user=()
[ "$(id -u)" -ne 0 ] || as_user=(setpriv --reuid=65534 --regid=65534 --clear-groups)

# debian_tar PACKAGES: a Debian as $user_directory/debian.tar, where an ordinary user made it and can
# make more. The test's own directory is closed to others.
debian_tar() {
	command -v mmdebstrap >/dev/null || skip "no mmdebstrap"
	apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 2>/dev/null | grep -q . ||
		skip "this host has no Debian mirror"
	user_directory=$(mktemp -d /tmp/jobvm-user.XXXXXX)
	chmod 777 "$user_directory"
	TMPDIR=/tmp HOME=$user_directory "${as_user[@]}" mmdebstrap --quiet --variant=minbase \
		--mode=fakechroot --include="$1" bookworm "$user_directory/debian.tar" >mmdebstrap.log 2>&1 ||
		skip "mmdebstrap cannot make a Debian here: $(tail -n 1 mmdebstrap.log)"
}
