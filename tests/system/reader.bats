# The reader of a job disk, with an exploit in it (tests/hostile/exploit.c): what it can do.
load helper

exploited=$build/exploited/jobvm

setup_file() {
	cd "$BATS_FILE_TMPDIR"
	"$build/jobvm" pack -o job.img -- sh -c 'echo out; echo data >file'
	"$build/jobvm" start job.img >out
}

# prey [USER]: a directory, for USER where one is given, with a secret, and a job disk in another.
prey() {
	prey=$(mktemp -d /tmp/jobvm-reader.XXXXXX)
	mkdir "$prey/outside" "$prey/disk"
	echo secret >"$prey/outside/secret"
	cp "$BATS_FILE_TMPDIR/job.img" "$prey/disk"
	as=()
	if [ -n "${1:-}" ]; then
		as=(setpriv --reuid "$1" --regid "$1" --clear-groups)
		chown -R "$1:$1" "$prey"
	fi
}

teardown() {
	[ -z "${jobvm_pid:-}" ] || kill -KILL $reader "$jobvm_pid" 2>/dev/null || true
	[ -z "${prey:-}" ] || rm -rf "$prey"
}

# exploit NAME COMMAND...: the exploited jobvm.
exploit() {
	(cd "$prey" && $hang_guard "${as[@]}" env TMPDIR="$prey" EXPLOIT="$1" EXPLOIT_OUTSIDE="$prey/outside" \
		EXPLOIT_DISK="$prey/disk/job.img" "${@:2}")
}

# tries PLACE: every attempt, at that place in the reading of a disk.
tries() {
	local name root found=0 bad=0
	while read -r name root; do
		rm -rf "$prey/out"
		code=0
		exploit "$name" EXPLOIT_AT="$1" "$exploited" collect -o out disk/job.img 2>"$prey/said" || code=$?
		found=$((found + 1))
		if [ "$code" -ne 125 ] || ! grep -qE "exploit $name: denied: |its reader was ended: it made a system call" "$prey/said"; then
			echo "$name at $1: exit code $code: $(cat "$prey/said")"
			bad=1
		fi
		if [ "$(ls "$prey" | tr '\n' ' ')$(ls "$prey/outside" "$prey/disk" | tr '\n' ' ')" != \
			"disk $([ ! -e "$prey/out" ] || echo 'out ')outside said $prey/disk: job.img  $prey/outside: secret " ] ||
			[ "$(cat "$prey/outside/secret")" != secret ] ||
			! cmp -s "$prey/disk/job.img" "$BATS_FILE_TMPDIR/job.img" ||
			[ -n "$(find "$prey" -perm /7000 -o -type c -o -type p -o -links +1 -type f)" ]; then
			echo "$name at $1 left a trace:"
			ls -laR "$prey"
			bad=1
		fi
	done < <(EXPLOIT=list "$exploited")
	[ "$found" -ge 48 ] && [ "$bad" -eq 0 ]
}

# Each of the attempts does something where nothing is confined: their being denied means something.
succeed_unconfined() {
	local name root bad=0
	while read -r name root; do
		[ -z "$root" ] || [ "$1" = root ] || continue
		rm -rf "$prey/out" "$prey/outside/"* "$prey/above" "$prey/disk/job.img.new"
		echo secret >"$prey/outside/secret"
		mkdir "$prey/out"
		chown -R --reference="$prey" "$prey"
		if ! exploit "$name" EXPLOIT_UNCONFINED="$prey/out" "$exploited" 2>"$prey/said"; then
			cat "$prey/said"
			bad=1
		fi
	done < <(EXPLOIT=list "$exploited")
	[ "$bad" -eq 0 ]
}

@test "what an exploited reader tries is denied, or is its end" {
	prey
	tries manifest
	tries stdout
}

@test "so it is for an ordinary user" {
	needs_root "to become an ordinary user"
	prey 65534
	tries manifest
	tries stdout
}

@test "the same attempts succeed where nothing is confined" {
	prey
	succeed_unconfined "$(id -un)"
	[ "$(id -u)" -ne 0 ] && return
	rm -rf "$prey"
	prey 65534
	succeed_unconfined 65534
}

@test "an exploited reader is named in what jobvm says, and job.json is there" {
	prey
	code=0
	exploit socket-inet EXPLOIT_AT=stdout "$exploited" collect -o out disk/job.img 2>"$prey/said" || code=$?
	[ "$code" -eq 125 ]
	grep -q "disk/job.img: its reader was ended: it made a system call that it has no use for" "$prey/said"
	[ "$(report .outputs.partial "$prey/out/job.json")" = true ]
	code=0
	exploit socket-inet EXPLOIT_AT=manifest "$exploited" inspect disk/job.img >"$prey/said" 2>&1 || code=$?
	grep -q "its reader was ended" "$prey/said"
}

@test "what an exploited reader tells is bounded and checked" {
	prey
	exploit flood EXPLOIT_AT=manifest "$exploited" inspect disk/job.img >"$prey/said" 2>&1 || true
	grep -q "its reader tells more than can be kept" "$prey/said"
	exploit huge-frame EXPLOIT_AT=manifest "$exploited" inspect disk/job.img >"$prey/said" 2>&1 || true
	grep -q "its reader makes no sense" "$prey/said"
	exploit foreign-path EXPLOIT_AT=stdout "$exploited" collect -o out disk/job.img >"$prey/said" 2>&1 || true
	grep -q "its reader collects nothing" "$prey/said"
	[ "$(report '.outputs.collected | length' "$prey/out/job.json")" -eq 0 ]
}

@test "a reader that does not end is ended" {
	prey
	exploit spin EXPLOIT_AT=manifest "$exploited" inspect disk/job.img >"$prey/said" 2>&1 || true
	grep -q "reading it takes more processor time than allowed" "$prey/said"
}

# spins PROCESS: it blocks SIGUSR2, which is the sign of the reader that turns in circles. There is
# another before it: what is read of the disk first is read by a process of its own.
spins() {
	local blocked
	blocked=$(sed -n 's/^SigBlk:.//p' "/proc/$1/status" 2>/dev/null)
	[ -n "$blocked" ] && [ $((0x$blocked & 0x800)) -ne 0 ]
}

# spinning_reader PLACE: starts a jobvm whose reader turns in circles, confined; $jobvm_pid, $reader.
spinning_reader() {
	cd "$prey"
	EXPLOIT=spin EXPLOIT_AT=$1 EXPLOIT_OUTSIDE=$prey/outside EXPLOIT_DISK=$prey/disk/job.img \
		"$exploited" collect -o out disk/job.img 2>said &
	jobvm_pid=$!
	until reader=$(pgrep -P "$jobvm_pid") && spins "$reader"; do
		kill -0 "$jobvm_pid"
	done
	grep -qx 'Seccomp:.2' "/proc/$reader/status"
	# Stopped, it has no limit of processor time.
	kill -STOP "$reader"
}

is_gone() {
	local state
	state=$(sed -n 's/^State:.//p' "/proc/$1/status" 2>/dev/null) || return 0
	[[ "$state" == "" || "$state" == Z* ]]
}

@test "a jobvm that is killed takes its reader with it" {
	for place in manifest stdout; do
		prey
		spinning_reader "$place"
		kill -KILL "$jobvm_pid"
		wait "$jobvm_pid" || true
		until is_gone "$reader"; do :; done
		cd /
		rm -rf "$prey"
	done
}

@test "a reader has no rights, no descriptors but its own, and leaves signals to jobvm" {
	prey
	spinning_reader stdout
	grep -qx 'NoNewPrivs:.1' "/proc/$reader/status"
	# HUP, INT, QUIT, PIPE, TERM.
	[ $((0x$(sed -n 's/^SigIgn:.//p' "/proc/$reader/status") & 0x5007)) -eq $((0x5007)) ]
	# DAC_OVERRIDE and FOWNER for root, nothing for others.
	[ $((0x$(sed -n 's/^CapPrm:.//p' "/proc/$reader/status") & ~0xa)) -eq 0 ]
	grep -qE '^Max processes +0 +0 ' "/proc/$reader/limits"
	grep -qE '^Max core file size +0 +0 ' "/proc/$reader/limits"
	if [ "$(id -u)" -eq 0 ]; then
		for fd in "/proc/$reader/fd/"*; do readlink "$fd"; done |
			sed 's/:.*//; s/\.[^/]*jobvm-[0-9]*$//' | LC_ALL=C sort >fds
		printf '%s\n' /dev/null /dev/null /dev/null "$prey/disk/job.img" "$prey/disk/job.img" "$prey/out" "$prey/out/" \
			"$prey/out/" pipe | diff - fds
	fi
	kill -KILL "$reader" "$jobvm_pid"
	wait "$jobvm_pid" || true
	cd /
	rm -rf "$prey"
	prey
	spinning_reader manifest
	if [ "$(id -u)" -eq 0 ]; then
		[ "$(awk '/^Uid:/ { print $2 }' "/proc/$reader/status")" -ne 0 ]
		[ $((0x$(sed -n 's/^CapPrm:.//p' "/proc/$reader/status"))) -eq 0 ]
	fi
	kill -KILL "$reader" "$jobvm_pid"
	wait "$jobvm_pid" || true
}

without_landlock() {
	$hang_guard "$build/host-programs/without-landlock" "$build/jobvm" "$@"
}

@test "a kernel without Landlock: no disk is read, and no job runs, unless that is wished" {
	local sentence="this kernel has no Landlock"
	jobvm pack -o fresh.img -- true
	run --separate-stderr -125 without_landlock inspect "$BATS_FILE_TMPDIR/job.img"
	says "$sentence"
	run --separate-stderr -125 without_landlock collect -o out "$BATS_FILE_TMPDIR/job.img"
	says "$sentence"
	run --separate-stderr -125 without_landlock start fresh.img
	says "$sentence"
	run --separate-stderr -125 without_landlock run -- sh -c 'echo ran'
	says "$sentence"
	[ -z "$output" ]
	run --separate-stderr -0 without_landlock inspect --without-landlock "$BATS_FILE_TMPDIR/job.img"
	rm -rf out
	run --separate-stderr -0 without_landlock collect --without-landlock -o out "$BATS_FILE_TMPDIR/job.img"
	[ "$(cat out/output/file)" = data ]
	[ "$(report .reader.landlock_abi)" -eq 0 ]
	[ "$(report .reader.seccomp)" = true ]
	run --separate-stderr -3 without_landlock run --without-landlock -o ran -- sh -c 'exit 3'
	[ "$(report .host.landlock_abi ran/job.json)" -eq 0 ]
	run --separate-stderr -0 without_landlock start --without-landlock fresh.img
	run --separate-stderr -2 jobvm pack --without-landlock -o other.img -- true
	says "unknown option"
}

@test "with Landlock, the report says so" {
	jobvm collect -o out "$BATS_FILE_TMPDIR/job.img"
	[ "$(report .reader.landlock_abi)" -gt 0 ]
}

# What strace sees of jobvm and its reader, behind the marker of the confinement.
@test "collecting makes no mount, no process but the reader, and leaves the disk as it is" {
	strace -o probe true || skip "this host does not let its user trace processes"
	cp "$BATS_FILE_TMPDIR/job.img" job.img
	sha256sum job.img >before
	run --separate-stderr -0 strace -f -o trace "$build/jobvm" collect -o out job.img
	sha256sum -c before
	# Two readers: the listing, and the copying.
	[ "$(grep -cE ' (clone3?|fork|vfork)\(' trace)" -eq 2 ]
	[ "$(grep -cE ' seccomp\(SECCOMP_SET_MODE_FILTER, 0, \{' trace)" -eq 2 ]
	! grep -E ' (mount|umount2|fsopen|fsmount|open_tree|move_mount|ptrace|bpf|connect|bind)\(' trace
	! grep -E 'LOOP_|/dev/(loop|nbd|mapper)' trace
	[ "$(grep -cE ' execve\(' trace)" -eq 1 ]
	# Behind its filter the listing reader opens nothing, the copying one below its directory only.
	awk '/ seccomp\(SECCOMP_SET_MODE_FILTER, 0, \{/ { confined[$1] = 1; next }
		confined[$1] && / open(at|at2)?\(/' trace >opens
	[ -s opens ]
	! grep -vE ' openat\([0-9]+, "[^/"]*", ' opens
}
