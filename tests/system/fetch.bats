# The execute side of a lazy disk: right bytes or an error, whatever happens to the server, to the
# cache, and to the processes that fetch.
load helper

# A tree, and the disk that is made of it, as the file `source`.
setup_file() {
	local tree=$BATS_FILE_TMPDIR/tree i
	mkdir -p "$tree/small" "$tree/odd"
	head -c 16777216 /dev/urandom >"$tree/large"
	head -c 3000000 /dev/urandom >"$tree/medium"
	for ((i = 0; i < 60; i++)); do
		head -c $((1 + i * 331)) /dev/urandom >"$tree/small/$i"
	done
	printf 'odd' >"$tree/odd/"$'line\n100%'
	ln -s large "$tree/link"
}

setup() {
	mkdir "$BATS_TEST_TMPDIR/work"
	cd "$BATS_TEST_TMPDIR/work"
	export TMPDIR=$PWD XDG_CACHE_HOME=$PWD/home-cache
	serve=$build/nbdkit/jobvm-serve.so
	uri="nbd+unix:///?socket=$PWD/s.sock"
}

teardown() {
	[ ! -e s.pid ] || end_server
}

# server ARGUMENT...: nbdkit in the background; returns when it takes connections.
server() {
	nbdkit -U "$PWD/s.sock" -P "$PWD/s.pid" --readonly "$@" 3>&- 7>&- 8>&-
}

end_server() {
	local pid
	pid=$(cat s.pid)
	kill -KILL "$pid"
	tail --pid="$pid" -f /dev/null
	rm -f s.pid s.sock
}

# Serves the tree, and has the disk as it is without us in the file `source`.
serve_tree() {
	server "$serve" input="${1:-$BATS_FILE_TMPDIR/tree}/"
	nbdcopy --no-extents "$uri" source
}

fetch_disk() {
	$hang_guard "$build/host-programs/fetch-disk" from="$uri" cache="$PWD/cache" "$@"
}

# value NAME: of the last command's summary.
value() {
	sed -n "s/^$1=//p" <<<"$output"
}

# Every block that was read is the source's, and of each reading none failed.
all_good() {
	local blocks
	blocks=$(($(stat -c %s source) / 4096))
	if [ "$(grep '^good=' <<<"$output" | sort -u)" != "good=$blocks bad=0 failed=0" ]; then
		echo "not all $blocks are good: $output $stderr"
		return 1
	fi
}

# Whatever else: no block was wrong.
no_wrong_bytes() {
	if grep -E '^good=' <<<"$output" | grep -v ' bad=0 '; then
		echo "wrong bytes: $output"
		return 1
	fi
}

# ... and something was read.
none_bad() {
	no_wrong_bytes
	grep '^good=' <<<"$output" || {
		echo "nothing was read: $output $stderr"
		return 1
	}
}

# file_blocks PATH: "FIRST COUNT" of its data on the disk.
file_blocks() {
	debugfs -R "blocks /$1" source 2>/dev/null | tr ' ' '\n' | grep . | sort -n |
		awk 'NR == 1 { first = $1 } END { print first, NR }'
}

# --- the bytes ---

@test "both policies give the tree's bytes, cold and warm, and a warm run fetches nothing" {
	serve_tree
	for policy in block file; do
		run --separate-stderr fetch_disk policy=$policy cache="$PWD/cache-$policy" -- all source
		all_good
		[ "$(value bytes_fetched)" -ge 19777216 ]
		[ "$(value bytes_fetched)" -eq "$(value bytes_cached)" ]
		# No block twice: what is not zero on the disk is all that there is to fetch.
		[ "$(value bytes_fetched)" -le "$(($(value bytes_touched) * 101 / 100))" ]
		[ "$(value files_touched)" -eq 63 ]

		run --separate-stderr fetch_disk policy=$policy cache="$PWD/cache-$policy" -- all source
		all_good
		[ "$(value bytes_fetched)" -eq 0 ]
		[ "$(value bytes_from_cache)" -eq "$(value bytes_touched)" ]
		[ "$(value problem)" = '' ]
	done
}

@test "reading at random fetches hardly more than what is read" {
	serve_tree
	run --separate-stderr fetch_disk policy=block -- random source 100 "$RANDOM"
	none_bad
	[ "$(value bytes_touched)" -gt 0 ]
	# The metadata of so small a disk is fetched in its few pieces.
	run --separate-stderr fetch_disk policy=block cache="$PWD/other" -- \
		at source "$(file_blocks large | cut -d' ' -f1)" 1 random source 1000 "$RANDOM"
	none_bad
	touched=$(value bytes_touched)
	fetched=$(value bytes_fetched)
	echo "$fetched bytes were fetched for $touched"
	[ $((fetched * 10)) -le $((touched * 12)) ]
}

@test "a file's first touch fetches all of it, and nothing of others" {
	serve_tree
	read -r first count < <(file_blocks large)
	run --separate-stderr fetch_disk policy=file -- \
		at source $((first + 2000)) 1 cached 16777216
	none_bad
	[ "$(value bytes_touched)" -eq 4096 ]
	[ "$(value bytes_fetched)" -eq 16777216 ]
	[ "$(value files_touched)" -eq 1 ]
	# What is read between its blocks is metadata.
	run --separate-stderr fetch_disk -- at source "$first" "$count"
	none_bad
	[ "$(value bytes_fetched)" -le 131072 ]
}

@test "sequential reading is fetched ahead, up to the file's end" {
	serve_tree
	read -r first count < <(file_blocks medium)
	run --separate-stderr fetch_disk policy=block -- at source "$first" 400
	none_bad
	[ "$(value bytes_touched)" -eq $((400 * 4096)) ]
	[ "$(value bytes_fetched)" -gt $((500 * 4096)) ]
	[ "$(value bytes_fetched)" -le $((count * 4096)) ]
}

@test "a disk refuses to be written, and does not say so before" {
	serve_tree
	run --separate-stderr fetch_disk -- write
	[[ "$output" == *"write: EPERM"*"trim: EPERM"*"zero: EPERM"*"read-only: 0"* ]]
}

# --- processes ---

@test "two processes share a cache, and between them fetch what they need" {
	serve_tree
	fetch_disk policy=file -- all source >first &
	first_pid=$!
	run --separate-stderr fetch_disk policy=block -- all source
	all_good
	wait "$first_pid"
	output=$(cat first)
	all_good
	run --separate-stderr fetch_disk -- all source
	all_good
	[ "$(value bytes_fetched)" -eq 0 ]
	[ "$(value cache_damaged)" -eq 0 ]
}

# FETCH_KILLS: how often (8).
@test "processes that are killed at any moment leave a cache that is right" {
	serve_tree
	for ((round = 0; round < ${FETCH_KILLS:-8}; round++)); do
		[ $((round % 4)) -ne 0 ] || rm -rf cache
		mkfifo out1 out2
		fetch_disk policy=file timeout=1000 -- random source 20 $round all source >out1 &
		one=$!
		fetch_disk policy=block timeout=1000 -- all source random source 20 $round >out2 &
		two=$!
		exec 7<out1 8<out2
		read -r -u 7 line1
		read -r -u 8 line2
		line1=${line1#pid=} line2=${line2#pid=}
		[ $((round % 3)) -eq 2 ] || kill -KILL "${line1%% *}" || true
		perl -e 'select(undef, undef, undef, rand(0.15))'
		[ $((round % 3)) -eq 1 ] || kill -KILL "${line2%% *}" || true
		output=$(cat <&7)
		no_wrong_bytes
		output=$(cat <&8)
		no_wrong_bytes
		wait "$one" || true
		wait "$two" || true
		exec 7<&- 8<&-
		rm out1 out2
		run --separate-stderr fetch_disk -- all source
		all_good
	done
}

@test "a process that fetches dies with its parent" {
	serve_tree
	mkfifo live
	"$build/host-programs/fetch-disk" from="$uri" cache="$PWD/cache" -- pause <live >out &
	parent=$!
	exec 7>live
	until grep -q paused out; do :; done
	pid=$(sed -n 's/^pid=\([0-9]*\).*/\1/p' out)
	kill -0 "$pid"
	kill -KILL "$parent"
	wait "$parent" || true
	exec 7>&-
	timeout 60 tail --pid="$pid" -f /dev/null
}

@test "it has no rights, no environment and no descriptors but its own" {
	serve_tree
	mkfifo live
	SECRET=1 "$build/host-programs/fetch-disk" from="$uri" cache="$PWD/cache" -- pause \
		<live >out 9<"$BATS_FILE_TMPDIR/tree/large" &
	parent=$!
	exec 7>live
	until grep -q paused out; do :; done
	pid=$(sed -n 's/^pid=\([0-9]*\).*/\1/p' out)
	grep -q '^NoNewPrivs:.*1$' "/proc/$pid/status"
	run ! grep -q SECRET "/proc/$pid/environ"
	[ -z "$(find "/proc/$pid/fd" -lname '*large')" ]
	[ "$(ps -o sid= -p "$pid" | tr -d ' ')" -eq "$pid" ]
	[ "$(readlink "/proc/$pid/ns/net")" != "$(readlink /proc/self/ns/net)" ] ||
		[ "$(id -u)" -ne 0 ]
	echo >&7
	exec 7>&-
	wait "$parent"
}

# --- the cache ---

# damage SEED: one thing that may happen to files.
damage() {
	local files file other size
	RANDOM=$1
	mapfile -t files < <(find cache -type f | sort)
	[ ${#files[@]} -gt 0 ] || return 0
	file=${files[RANDOM % ${#files[@]}]}
	other=${files[RANDOM % ${#files[@]}]}
	size=$(stat -c %s "$file")
	case $((RANDOM % 6)) in
	0) truncate -s $(((RANDOM * 32768 + RANDOM) % (size + 1))) "$file" ;;
	1) head -c "$size" /dev/urandom >"$file" ;;
	2) cp "$file" aside && cp "$other" other && mv other "$file" && mv aside "$other" ;;
	3) dd if=/dev/zero of="$file" bs=4096 seek=$((RANDOM % 40)) count=100 conv=notrunc status=none ;;
	4) rm "$file" && mkdir "$file" ;;
	5) perl -e 'srand($ARGV[2]); open(F, "+<", $ARGV[0]); for (1..200) {
		seek(F, int(rand($ARGV[1])), 0); print F chr(int(rand(256))); }' "$file" "$size" "$1" ;;
	esac
}

# FETCH_DAMAGES: how often (12).
@test "a damaged cache costs time, and nothing else" {
	serve_tree
	damaged=0
	for ((round = 0; round < ${FETCH_DAMAGES:-12}; round++)); do
		[ $((round % 4)) -ne 0 ] || {
			rm -rf cache
			run --separate-stderr fetch_disk -- all source
			all_good
		}
		damage $((RANDOM + round))
		run --separate-stderr fetch_disk policy=$([ $((round % 2)) -eq 0 ] && echo block || echo file) -- \
			all source
		all_good
		damaged=$((damaged + $(value cache_damaged) + $(value bytes_fetched)))
	done
	[ "$damaged" -gt 0 ]
}

@test "damage is mended: the run after it fetches nothing" {
	serve_tree
	fetch_disk -- all source
	read -r first _ < <(file_blocks large)
	file=$(echo cache/*/"$(printf %08x $((first / 4096)))")
	printf damaged | dd of="$file" bs=1 seek=$((32768 + first % 4096 * 4096)) conv=notrunc \
		status=none
	run --separate-stderr fetch_disk -- all source
	all_good
	[ "$(value cache_damaged)" -eq 1 ]
	[ "$(value bytes_fetched)" -ge 4096 ]
	run --separate-stderr fetch_disk -- all source
	all_good
	[ "$(value cache_damaged)" -eq 0 ]
	[ "$(value bytes_fetched)" -eq 0 ]
}

@test "a full disk under the cache costs nothing but the cache" {
	needs_small_disk
	serve_tree
	for policy in block file; do
		run --separate-stderr small_disk 4M "$build/host-programs/fetch-disk" from="$uri" \
			cache="$PWD/small/cache" policy=$policy -- all source all source
		all_good
		[ "$(value cache_problems)" -gt 0 ]
		[[ "$(value problem)" == *"No space left"* ]]
	done
}

@test "a cache that cannot be written or made costs nothing but the cache" {
	serve_tree
	touch not-a-directory
	for policy in block file; do
		for cache in not-a-directory/cache not-a-directory; do
			run --separate-stderr fetch_disk policy=$policy cache="$PWD/$cache" -- \
				all source all source
			all_good
			[ "$(value bytes_cached)" -eq 0 ]
			[ "$(value cache_problems)" -gt 0 ]
			[[ "$(value problem)" == *not-a-directory* ]]
			# What was fetched is kept as long as the process lives.
			[ "$(value bytes_fetched)" -le "$(($(value bytes_touched) * 101 / 100))" ]
		done
	done
}

@test "where nothing at all can be kept, what is read in a row is fetched once" {
	mkdir tree
	head -c 100000000 /dev/urandom >tree/large
	serve_tree "$PWD/tree"
	TMPDIR=/proc run --separate-stderr fetch_disk cache=/proc/cache -- all source
	all_good
	[ "$(value cache_problems)" -gt 0 ]
	[ "$(value bytes_fetched)" -le "$(($(value bytes_touched) * 101 / 100))" ]
}

@test "a read-only cache is used, and not written" {
	needs_small_disk
	serve_tree
	mkdir cache
	fetch_disk -- at source 0 100
	run --separate-stderr "${own_mounts[@]}" sh -c 'mount --bind cache cache &&
		mount -o remount,bind,ro cache && exec "$@"' sh $hang_guard \
		"$build/host-programs/fetch-disk" from="$uri" cache="$PWD/cache" -- all source
	all_good
	[ "$(value bytes_cached)" -eq 0 ]
	[ "$(value cache_problems)" -gt 0 ]
}

@test "a cache stays within its bound, whoever writes to it" {
	serve_tree
	fetch_disk max=8388608 policy=file -- all source >/dev/null &
	other=$!
	run --separate-stderr fetch_disk max=8388608 policy=block -- all source all source
	wait "$other"
	all_good
	[ "$(du -s --block-size=1 cache | cut -f1)" -le 8388608 ]
	find cache -type f | grep -q .
}

# --- the server ---

@test "a server that was started again is found again" {
	serve_tree
	mkfifo live
	fetch_disk -- random source 50 1 pause all source <live >out &
	job=$!
	exec 7>live
	until grep -q paused out; do :; done
	end_server
	server "$serve" input="$BATS_FILE_TMPDIR/tree/"
	echo >&7
	wait "$job"
	exec 7>&-
	output=$(sed 1,2d out)
	all_good
	[ "$(value reconnects)" -ge 1 ]
	[[ "$(value problem)" == *"connection was lost"* ]]
}

@test "reads wait for a server that is away, and are right when it is back" {
	serve_tree
	mkfifo live
	fetch_disk timeout=60000 -- pause all source <live >out &
	job=$!
	exec 7>live
	until grep -q paused out; do :; done
	end_server
	echo >&7
	# The first read waits for some time now.
	perl -e 'select(undef, undef, undef, 0.5)'
	server "$serve" input="$BATS_FILE_TMPDIR/tree/"
	wait "$job"
	exec 7>&-
	output=$(cat out)
	all_good
	[ "$(value stalled_ms)" -ge 300 ]
	[ "$(value errors)" -eq 0 ]
}

@test "after the timeout reads are errors, what is cached is not, and a server's return ends that" {
	serve_tree
	mkfifo live
	read -r first count < <(file_blocks large)
	fetch_disk timeout=300 -- at source "$first" 1 pause at source "$first" 1 at source \
		$((first + 3000)) 2 pause at source $((first + 3000)) 2 <live >out &
	job=$!
	exec 7>live
	until grep -q paused out; do :; done
	end_server
	echo >&7
	until [ "$(grep -c paused out)" -eq 2 ]; do :; done
	server "$serve" input="$BATS_FILE_TMPDIR/tree/"
	perl -e 'select(undef, undef, undef, 1.5)'
	echo >&7
	wait "$job"
	exec 7>&-
	[ "$(grep ^good= out | tr '\n' ' ')" = "good=1 bad=0 failed=0 good=1 bad=0 failed=0 good=0 bad=0 failed=2 good=2 bad=0 failed=0 " ]
	output=$(cat out)
	[ "$(value errors)" -eq 2 ]
}

@test "a server that is stopped is one that is away" {
	serve_tree
	mkfifo live
	fetch_disk timeout=500 -- pause at source 0 1 pause all source <live >out &
	job=$!
	exec 7>live
	until grep -q paused out; do :; done
	kill -STOP "$(cat s.pid)"
	echo >&7
	until [ "$(grep -c paused out)" -eq 2 ]; do :; done
	kill -CONT "$(cat s.pid)"
	perl -e 'select(undef, undef, undef, 1.5)'
	echo >&7
	wait "$job"
	exec 7>&-
	[ "$(grep ^good= out | head -n 1)" = "good=0 bad=0 failed=1" ]
	output=$(grep -v failed=1 out)
	all_good
}

@test "a server that says nothing any more is left for the next one" {
	serve_tree
	mkfifo live
	fetch_disk timeout=700 -- pause at source 0 1 pause all source <live >out &
	job=$!
	exec 7>live
	until grep -q paused out; do :; done
	silent=$(cat s.pid)
	kill -STOP "$silent"
	rm s.sock
	server "$serve" input="$BATS_FILE_TMPDIR/tree/"
	echo >&7
	until [ "$(grep -c paused out)" -eq 2 ]; do :; done
	perl -e 'select(undef, undef, undef, 1.5)'
	echo >&7
	wait "$job"
	kill -KILL "$silent"
	exec 7>&-
	output=$(grep -v failed=1 out)
	all_good
	[ "$(value reconnects)" -ge 1 ]
}

@test "another tree at the same address is an error for all that is not cached" {
	serve_tree
	# Of the same size.
	cp -a "$BATS_FILE_TMPDIR/tree" other
	head -c 16777216 /dev/urandom >other/large
	mkfifo live
	read -r first count < <(file_blocks large)
	fetch_disk timeout=20000 -- at source "$first" 2 pause at source "$first" 2 \
		at source $((first + 3000)) 3 <live >out &
	job=$!
	exec 7>live
	until grep -q paused out; do :; done
	end_server
	server "$serve" input="$PWD/other/"
	echo >&7
	wait "$job"
	exec 7>&-
	[ "$(grep ^good= out | tr '\n' ' ')" = "good=2 bad=0 failed=0 good=2 bad=0 failed=0 good=0 bad=0 failed=3 " ]
	output=$(cat out)
	[[ "$(value problem)" == *"another tree"* ]]
}

@test "a server's error is an error, never zeros, and only as long as it lasts" {
	server --filter=error "$serve" input="$BATS_FILE_TMPDIR/tree/" error-pread-rate=100% \
		error-file="$PWD/trouble"
	nbdcopy --no-extents "$uri" source
	mkfifo live
	read -r first count < <(file_blocks large)
	fetch_disk timeout=60000 -- at source "$first" 1 pause at source $((first + 3000)) 3 pause \
		at source $((first + 3000)) 3 <live >out &
	job=$!
	exec 7>live
	until grep -q paused out; do :; done
	touch trouble
	echo >&7
	until [ "$(grep -c paused out)" -eq 2 ]; do :; done
	rm trouble
	echo >&7
	wait "$job"
	exec 7>&-
	[ "$(grep ^good= out | tr '\n' ' ')" = "good=1 bad=0 failed=0 good=0 bad=0 failed=3 good=3 bad=0 failed=0 " ]
	output=$(cat out)
	[ "$(value errors)" -eq 3 ]
	[ "$(value reconnects)" -eq 0 ]

	# Not even the map can be read.
	touch trouble
	run --separate-stderr fetch_disk -- all source
	[ "$status" -eq 1 ]
	says "$uri: read the map: Input/output error"
}

# FETCH_FAULTS: how often (6).
@test "a server that fails now and then gives right bytes or errors" {
	serve_tree
	end_server
	server --filter=error "$serve" input="$BATS_FILE_TMPDIR/tree/" error-pread-rate=1%
	good=0
	for ((round = 0; round < ${FETCH_FAULTS:-6}; round++)); do
		rm -rf cache
		run --separate-stderr fetch_disk policy=$([ $((round % 2)) -eq 0 ] && echo block || echo file) -- \
			all source random source 200 "$round"
		[ "$status" -eq 0 ] || continue
		none_bad
		good=$((good + 1))
	done
	[ "$good" -gt 0 ]
}

# FETCH_DELAY_MS: of each read (30).
@test "a slow server is waited for" {
	local delay=${FETCH_DELAY_MS:-30} hang_guard="timeout --foreground 7200"
	serve_tree
	end_server
	server --filter=delay "$serve" input="$BATS_FILE_TMPDIR/tree/" rdelay="${delay}ms"
	# One read may need many answers, one after the other.
	run --separate-stderr fetch_disk timeout=$((delay * 40 + 10000)) -- all source
	all_good
	[ "$(value stalled_ms)" -ge "$delay" ]
	[ "$(value errors)" -eq 0 ]
}

# change TREE SEED: one thing that happens to files while they are served.
change() {
	local files file
	RANDOM=$2
	mapfile -d '' -t files < <(find "$1" -type f -print0 | sort -z)
	file=${files[RANDOM % ${#files[@]}]}
	[ $((RANDOM % 2)) -eq 0 ] || file=$1/large
	case $((RANDOM % 5)) in
	0) truncate -s $((RANDOM * 3)) "$file" ;;
	1) rm "$file" ;;
	2) printf changed | dd of="$file" conv=notrunc bs=1 seek=$RANDOM status=none ;;
	3) cp "$file" "$1/new" && mv "$1/new" "$file" ;;
	4) rm "$file" && mkdir "$file" ;;
	esac
}

# FETCH_CHANGES: how often (10).
@test "files that change while they are served give their old bytes or errors" {
	for ((round = 0; round < ${FETCH_CHANGES:-10}; round++)); do
		rm -rf tree
		cp -a "$BATS_FILE_TMPDIR/tree" tree
		serve_tree "$PWD/tree"
		fetch_disk policy=$([ $((round % 2)) -eq 0 ] && echo block || echo file) -- \
			random source 20 $round all source >out &
		job=$!
		perl -e 'select(undef, undef, undef, rand(0.2))'
		change tree $((RANDOM + round))
		wait "$job" || true
		output=$(cat out)
		no_wrong_bytes
		run --separate-stderr fetch_disk -- all source
		none_bad
		end_server
	done
}

@test "an export that is none of ours, or another than the one that is wanted, is refused" {
	run --separate-stderr fetch_disk -- all source
	[ "$status" -eq 1 ]
	says "$uri: connect"

	server memory 1M
	run --separate-stderr fetch_disk -- all source
	[ "$status" -eq 1 ]
	says "$uri: what it serves is no tree of jobvm's"
	end_server

	serve_tree
	other=$(printf '%064d' 7)
	run --separate-stderr fetch_disk identity="$other" -- all source
	[ "$status" -eq 1 ]
	says "not $other"
	run --separate-stderr fetch_disk identity=short -- all source
	[ "$status" -eq 1 ]
	says "is no identity"
	run --separate-stderr fetch_disk -- at source 0 1
	identity=$(sed -n 's/.*identity=\([0-9a-f]*\).*/\1/p' <<<"$output")
	fetch_disk identity="$identity" -- at source 0 1
}

@test "a server that lies about its map is refused" {
	cat >lie <<-'EOS'
		#!/bin/sh
		case $1 in
		list_exports) printf 'NAMES\n\nmap\n' ;;
		open) echo "$3" ;;
		export_description) echo "jobvm-tree-1 $(printf '%064d' 7)" ;;
		get_size) [ "$2" = map ] && cat map-size || echo 1048576 ;;
		pread) head -c "$3" map-bytes ;;
		can_write | can_flush | can_trim | can_zero) exit 3 ;;
		*) exit 2 ;;
		esac
	EOS
	chmod +x lie
	for size in 0 8192 3000000000; do
		echo $size >map-size
		head -c 8192 /dev/urandom >map-bytes
		server sh "$PWD/lie"
		run --separate-stderr fetch_disk timeout=5000 -- pause
		[ "$status" -eq 1 ]
		says "map"
		end_server
	done
}

# --- traces ---

@test "a trace names the files in order, and fetches them ahead in another run" {
	serve_tree
	read -r medium medium_count < <(file_blocks medium)
	read -r small _ < <(file_blocks small/7)
	read -r odd _ < <(debugfs -R 'ls -l /odd' source 2>/dev/null | awk '/line/ { print $1 }' |
		xargs -I{} debugfs -R 'blocks <{}>' source 2>/dev/null)
	run --separate-stderr fetch_disk -- at source "$small" 1 at source "$medium" 1 \
		at source "$odd" 1 at source "$small" 1 trace trace
	none_bad
	[ "$(value files_touched)" -eq 3 ]
	[ "$(cat trace)" = $'small/7\nmedium\nodd/line%0A100%25' ]

	# In a cache of its own, without reading anything.
	printf 'vanished\n%%GG\n\n' >>trace
	run --separate-stderr fetch_disk cache="$PWD/other" prefetch="$PWD/trace" -- \
		cached $((medium_count * 4096 + 8192))
	[ "$(value bytes_touched)" -eq 0 ]
	[ "$(value files_touched)" -eq 0 ]
	run --separate-stderr fetch_disk cache="$PWD/other" -- at source "$medium" "$medium_count" \
		at source "$small" 1 at source "$odd" 1
	none_bad
	[ "$(value bytes_fetched)" -eq 0 ]
}

@test "the metadata is a file system of its own" {
	serve_tree
	run --separate-stderr fetch_disk -- metadata "$PWD/metadata"
	none=$(stat -c %s metadata)
	[ "$none" -eq "$(stat -c %s source)" ]
	e2fsck -fn metadata
	for command in 'ls -l /small' 'stat /large' 'stat /link'; do
		diff <(debugfs -R "$command" metadata 2>/dev/null) <(debugfs -R "$command" source 2>/dev/null)
	done
	# No file's data.
	[ "$(du --block-size=1 metadata | cut -f1)" -lt 2000000 ]
	# From the cache, where the server is gone: that takes a connection first.
	end_server
	run --separate-stderr fetch_disk -- metadata "$PWD/metadata"
	[ "$status" -eq 1 ]
}

# --- over the network ---

@test "over TLS, only the right server is believed" {
	command -v certtool >/dev/null || skip "needs gnutls-bin"
	make_certificates
	port=$(free_port)
	nbdkit -p "$port" -i 127.0.0.1 -P "$PWD/s.pid" --readonly --tls=require --tls-verify-peer \
		--tls-certificates="$PWD/server" "$serve" input="$BATS_FILE_TMPDIR/tree/" 3>&-
	run --separate-stderr fetch_disk from="nbds://localhost:$port" tls="$PWD/client" -- \
		random /dev/null 0 0
	echo "$stderr"
	[ "$status" -eq 0 ]
	# Another authority; no certificate of ours; without TLS.
	run --separate-stderr fetch_disk from="nbds://localhost:$port" tls="$PWD/stranger" -- write
	[ "$status" -eq 1 ]
	says "nbds://localhost:$port"
	run --separate-stderr fetch_disk from="nbds://localhost:$port" -- write
	[ "$status" -eq 1 ]
	run --separate-stderr fetch_disk from="nbd://localhost:$port" -- write
	[ "$status" -eq 1 ]
	run --separate-stderr fetch_disk from="nbd://localhost:$port" tls="$PWD/client" -- write
	[ "$status" -eq 1 ]
	says "certificates are for nbds:// only"
}

free_port() {
	perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(Listen => 1,
		LocalAddr => "127.0.0.1")->sockport'
}

# certificate AUTHORITY DIRECTORY KIND: DIRECTORY with one that AUTHORITY signed.
certificate() {
	mkdir -p "$2"
	cp "$1.pem" "$2/ca-cert.pem"
	certtool --generate-privkey --outfile "$2/$3-key.pem" --bits 2048 2>/dev/null
	printf '%s\n' 'organization = "test"' 'cn = "localhost"' 'dns_name = "localhost"' \
		"tls_www_$3" encryption_key signing_key >template
	certtool --generate-certificate --load-ca-certificate "$1.pem" --load-ca-privkey "$1.key" \
		--load-privkey "$2/$3-key.pem" --template template --outfile "$2/$3-cert.pem" 2>/dev/null
}

make_certificates() {
	local authority
	for authority in ours theirs; do
		certtool --generate-privkey --outfile $authority.key --bits 2048 2>/dev/null
		printf '%s\n' 'cn = "authority"' ca cert_signing_key >template
		certtool --generate-self-signed --load-privkey $authority.key --template template \
			--outfile $authority.pem 2>/dev/null
	done
	certificate ours server server
	certificate ours client client
	certificate theirs stranger client
}
