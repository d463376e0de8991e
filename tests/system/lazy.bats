# Jobs whose inputs are fetched when they read them.
load helper

# A tree with what a job may meet in one; the job reads some of it, and changes some.
make_tree() {
	mkdir -p tree/sub/deep tree/bin
	echo first >tree/first
	seq 1 200000 >tree/numbers
	head -c 3000000 /dev/urandom >tree/sub/random
	echo deep >tree/sub/deep/file
	ln tree/first tree/sub/link
	ln -s ../first tree/sub/symlink
	ln -s /etc/passwd tree/outside
	: >tree/empty
	printf '#!/bin/sh\necho ran\n' >tree/bin/run
	chmod 755 tree/bin/run
	cat >tree/job.sh <<-'END'
		bin/run
		cat first sub/symlink sub/deep/file
		tail -n 1 numbers
		sha256sum sub/random numbers
		ls -lR --full-time | grep -v ^total
		echo more >>first
		rm sub/deep/file
		echo new >sub/new
		chmod 600 sub/random
	END
}

# own_cache: nothing is in it yet.
own_cache() {
	export XDG_CACHE_HOME=$PWD/cache
	mkdir -p cache
	[ ! -d "$BATS_RUN_TMPDIR/jobvm" ] || ln -s "$BATS_RUN_TMPDIR/jobvm" cache/templates
}

# results DIR: all that came of a run, for comparing.
results() {
	cat "$1/stdout" "$1/stderr"
	(cd "$1/output" && find . -type f -exec sha256sum {} + | sort)
	report .outputs.collected "$1/job.json"
}

fetch() {
	report ".host.fetch.$1" "${2:-out/job.json}"
}

@test "the same job with eager, block and file has the same outputs" {
	make_tree
	for policy in eager block file; do
		jobvm run -o "$policy" --fetch "$policy" -i tree/ -- sh job.sh >/dev/null
		results "$policy" >"$policy.results"
	done
	cat eager.results
	[ "$(grep -cx ran eager/stdout)" -eq 1 ]
	diff eager.results block.results
	diff eager.results file.results
	[ "$(report .host.fetch eager/job.json)" = null ]
	[ "$(fetch policy block/job.json)" = block ]
	[ "$(fetch policy file/job.json)" = file ]
	[ "$(fetch 'errors' block/job.json)" -eq 0 ]
	# The tree is as it was.
	[ "$(cat tree/first)" = first ]
	[ ! -e tree/sub/new ]
}

@test "a lazy job has no network, and neither have QEMU and what fetches, but to the server" {
	make_tree
	start_job --fetch block -i tree/ --stdin tree/first -- sh -c '
		echo started
		cat /proc/net/dev /proc/net/route
		ls /sys/class/net
		tail -n +2 /proc/net/tcp /proc/net/udp /proc/net/raw 2>/dev/null | grep : || true
		while [ ! -e /tmp/never ]; do sleep 1; done'
	[ "$first_line" = started ]
	children=$(pgrep -P "$jobvm_pid")
	[ "$(wc -w <<<"$children")" -ge 2 ]
	! ss -Htunap | grep -E "pid=($(tr '\n' '|' <<<"$children")0),"
	if [ "$(id -u)" -eq 0 ]; then
		server=$(pgrep -P "$jobvm_pid" nbdkit)
		[ "$(readlink "/proc/$server/ns/net")" != "$(readlink /proc/self/ns/net)" ]
	fi
	kill -INT "$jobvm_pid"
	timeout 20 cat <&7 >facts || true
	end_job
	cat facts
	[ "$code" -eq 130 ]
	[ "$(grep -c ':' facts)" -eq 1 ]
	grep -q ' lo:' facts
	for child in $children; do [ ! -e "/proc/$child" ]; done
}

@test "strace and lsof see no network in a guest that fetches its inputs" {
	debian_tar strace,lsof
	jobvm image build --quiet --from "$user_directory/debian.tar" -o image
	mkdir tree
	head -c 3000000 /dev/urandom >tree/data
	sha256sum tree/data | cut -c 1-64 >digest
	run --separate-stderr -0 jobvm run --image image --fetch block -i tree/ -o out -- bash -c '
		strace -f -o network -e trace=%network sha256sum data | cut -c 1-64
		lsof -n -P -i >>sockets
		# What they see where there is something.
		strace -f -o tried -e trace=%network bash -c "exec 3<>/dev/tcp/127.0.0.1/1" || true'
	prints "$(cat digest)"
	! grep -E 'socket|connect|recv|send' out/output/network
	grep -q 'exited with 0' out/output/network
	[ ! -s out/output/sockets ]
	grep -q 'socket(AF_INET' out/output/tried
}

@test "a lazy job fetches what it touches, a second one nothing" {
	mkdir tree
	for n in {1..40}; do head -c 1000000 /dev/urandom >"tree/$n"; done
	own_cache
	for policy in block file; do
		rm -rf out again cache/jobvm/fetch
		jobvm run -o out --fetch "$policy" --fetch-cache 1G -i tree/ -- \
			sh -c 'cat 7 13 | sha256sum' >first
		[ "$(cat first)" = "$(cat tree/7 tree/13 | sha256sum)" ]
		[ "$(fetch files_touched)" -eq 2 ]
		[ "$(fetch bytes_touched)" -ge 2000000 ]
		[ "$(fetch 'bytes_fetched <= .host.fetch.bytes_touched * 1.2')" = true ]
		jobvm run -o again --fetch "$policy" --fetch-cache 1G -i tree/ -- \
			sh -c 'cat 7 13 | sha256sum' >second
		cmp first second
		[ "$(fetch bytes_fetched again/job.json)" -eq 0 ]
		[ "$(fetch bytes_from_cache again/job.json)" -ge 2000000 ]
	done
}

@test "what lies on a disk of this machine is read there, and not copied" {
	make_tree
	own_cache
	run --separate-stderr -0 jobvm run -o out --fetch block --trace trace -i tree/ -- \
		sh -c 'cat sub/deep/file; sha256sum <numbers'
	prints "deep"$'\n'"$(sha256sum <tree/numbers)"
	[ "$(fetch files_touched)" -eq 2 ]
	[ "$(fetch bytes_touched)" -ge "$(stat -c %s tree/numbers)" ]
	[ "$(fetch 'bytes_fetched + .host.fetch.bytes_cached')" -eq 0 ]
	[ ! -e cache/jobvm/fetch ]
	[ "$(grep -v '^#' trace)" = $'sub/deep/file\nnumbers' ]
	# A list of what to fetch ahead, and a cache that is asked for, are served by the other way.
	for option in '--prefetch trace' '--fetch-cache 1G'; do
		rm -rf out cache/jobvm/fetch
		jobvm run -o out --fetch block $option -i tree/ -- cat numbers | cmp - tree/numbers
		[ "$(fetch 'bytes_cached > 0')" = true ]
	done
}

@test "what comes over a network, or may, is kept in the cache" {
	needs_root "mounting without fusermount3"
	own_cache
	head -c 2000000 /dev/urandom >data
	mkdir remote
	nbdfuse -P nbdfuse.pid -r remote/data --command nbdkit -s --readonly file data 3>&- &
	until [ -s nbdfuse.pid ]; do kill -0 $!; done
	jobvm run -o out --fetch block -i remote/data -- sha256sum data >digest ||
		{ umount remote; return 1; }
	umount remote
	wait $! || true
	[ "$(cut -c 1-64 digest)" = "$(sha256sum <data | cut -c 1-64)" ]
	[ "$(fetch 'bytes_cached >= 2000000')" = true ]
}

@test "a server that is killed while its job reads is an error that is told" {
	make_tree
	start_job -o out --fetch block -i tree/ -- sh -c '
		echo started
		head -c 30000000 /dev/zero
		echo
		cat numbers >read; echo $?'
	pkill -KILL -P "$jobvm_pid" nbdkit
	tail -n +2 <&7 >rest
	end_job
	cat stderr rest
	[ "$code" -eq 0 ]
	[ "$(cat rest)" = 1 ]
	[ ! -s out/output/read ]
	grep -q "warning: the server of the inputs ended before the job did" stderr
	[ "$(fetch problem)" = "the server of the inputs ended before the job did" ]
}

@test "one block of a file: block fetches little, file the whole" {
	mkdir tree
	head -c 20000000 /dev/urandom >tree/large
	own_cache
	for policy in block file; do
		rm -rf out cache/jobvm/fetch
		jobvm run -o out --fetch "$policy" -i tree/ -- \
			dd if=large bs=4096 skip=2000 count=1 iflag=direct status=none |
			cmp - <(tail -c +8192001 tree/large | head -c 4096)
		[ "$(fetch bytes_touched)" -le 300000 ]
		[ "$(fetch 'bytes_cached >= 20000000')" = "$([ $policy = file ] && echo true || echo false)" ]
	done
}

@test "what a lazy job changed is told as for any other" {
	make_tree
	jobvm run -o eager -i tree/ -- sh job.sh >/dev/null
	jobvm run -o lazy --fetch block -i tree/ -- sh job.sh >/dev/null
	changes='[.outputs.collected[] | {path, change}]'
	report '.outputs' lazy/job.json
	diff <(report "$changes" eager/job.json) <(report "$changes" lazy/job.json)
	diff <(report '.outputs.deleted' eager/job.json) <(report '.outputs.deleted' lazy/job.json)
}

@test "a trace lists what was read, and a later job fetches ahead by it" {
	make_tree
	own_cache
	run --separate-stderr -0 jobvm run --fetch block --trace trace -i tree/ -- \
		sh -c 'cat sub/deep/file; cat first >/dev/null'
	prints deep
	[ "$(grep -v '^#' trace)" = $'sub/deep/file\nfirst' ]
	rm -rf cache/jobvm/fetch
	jobvm run -o out --fetch block --prefetch trace -i tree/ -- sh -c 'sleep 1; cat first' >/dev/null
	[ "$(fetch 'bytes_fetched >= 8192')" = true ]
	run --separate-stderr -125 jobvm run --fetch block --prefetch absent -i tree/ -- true
	says absent
}

@test "packed inputs lie above the served tree" {
	make_tree
	echo packed >first
	cat >lazy.sub <<-'END'
		executable = tree/bin/run
		arguments = x
		transfer_input_files = first
		jobvm_fetch = file
		jobvm_from = tree
		output = stdout
		queue
	END
	sed -i 's|^echo ran|cat first sub/deep/file; ls -d bin run|' tree/bin/run
	jobvm run lazy.sub
	[ "$(cat stdout)" = $'packed\ndeep\nbin\nrun' ]
}

@test "pack, start and collect: the tree is named at the start" {
	make_tree
	jobvm pack --fetch block -o job.img -- sh job.sh
	run --separate-stderr -125 jobvm start job.img
	says "job.img: its job fetches its inputs when it reads them; --from says where they are"
	run --separate-stderr -125 jobvm start job.img --from nowhere
	says nowhere
	run --separate-stderr -0 jobvm start job.img --from tree
	[ "${lines[0]}" = ran ]
	jobvm collect -o out job.img
	[ "$(cat out/output/first)" = $'first\nmore' ]
	[ "$(report .host.fetch.policy)" = block ]
}

@test "a tree of another server, by its URI" {
	make_tree
	"$build/jobvm" serve tree --listen "unix:$PWD/socket" 2>served &
	server_pid=$!
	until grep -q 'serving\|ready' served; do kill -0 $server_pid; done
	run --separate-stderr -0 jobvm run --fetch file --from "nbd+unix:///?socket=$PWD/socket" -- \
		sh -c 'cat first; tail -n 1 numbers'
	prints $'first\n200000'
	kill $server_pid
	wait $server_pid || true
	run --separate-stderr -125 jobvm run --fetch file --from "nbd+unix:///?socket=$PWD/socket" -- true
	says "$PWD/socket"
}

# change_and_read COMMAND: runs it between the start of a job and its reading the file "numbers". More
# output than fits between the two keeps the job from going on before.
change_and_read() {
	rm -rf tree live out
	make_tree
	start_job -o out --fetch block -i tree/ -- sh -c '
		echo started
		head -c 30000000 /dev/zero
		echo
		cat numbers >read; echo $?; cat first'
	[ "$first_line" = started ]
	(cd tree && eval "$1")
	tail -n +2 <&7 >rest
	end_job
}

@test "a file that changes meanwhile is an error that names it, and no mixture" {
	for change in 'echo x >>numbers' 'truncate -s 100 numbers' 'rm numbers' 'touch numbers' \
		'cp -p numbers new; mv new numbers' 'rm numbers; ln -s first numbers'; do
		change_and_read "$change"
		cat stderr rest
		[ "$code" -eq 0 ]
		[ "$(cat rest)" = $'1\nfirst' ]
		[ ! -s out/output/read ]
		[ "$(fetch 'errors > 0')" = true ]
		grep -q "numbers" stderr
		grep -q "reads of the inputs failed" stderr
	done
	# And without a change it is none.
	change_and_read true
	[ "$(cat rest)" = $'0\nfirst' ]
	cmp tree/numbers out/output/read
}

@test "a clone that does not come up: the job is booted with an input disk of its own" {
	make_tree
	fake_qemu 'case "$*" in *-incoming*) exit 1 ;; esac' 'exec /usr/bin/qemu-system-x86_64 "$@"'
	own_cache
	run --separate-stderr -0 jobvm run -o out --fetch block --start clone -i tree/ -- cat first
	prints first
	[ "$(report .host.start.kind)" = cold ]
	[ "$(fetch files_touched)" -eq 1 ]
}

@test "a jobvm that is killed leaves no process that serves or fetches" {
	make_tree
	start_job --fetch block -i tree/ -- sh -c 'echo started; sleep 1000'
	children=$(pgrep -P "$jobvm_pid")
	kill -KILL "$jobvm_pid"
	end_job
	for child in $children; do
		while [ -e "/proc/$child" ] && ! grep -q '^State:.Z' "/proc/$child/status"; do :; done
	done
}

@test "words that go with lazy inputs only" {
	for option in --from --trace --prefetch --tls-certificates; do
		run --separate-stderr -2 jobvm run $option x -- true
		says "needs jobvm_fetch = block or file"
	done
	run --separate-stderr -125 jobvm run --fetch block --from nbd://localhost:1 -- true
	says nbd://localhost:1
	run --separate-stderr -125 jobvm run --fetch block -i absent -- true
	says absent
	run --separate-stderr -2 jobvm run --fetch lazy -- true
}

@test "an ordinary user has lazy inputs" {
	needs_root "becoming another user"
	make_tree
	user_directory=$(mktemp -d /tmp/jobvm-user.XXXXXX)
	cp -r tree "$user_directory"
	chown -R nobody "$user_directory"
	run --separate-stderr -0 setpriv --reuid nobody --clear-groups env HOME="$user_directory" \
		XDG_CACHE_HOME="$user_directory/cache" TMPDIR="$user_directory" \
		"$build/jobvm" run --fetch block -i "$user_directory/tree/" -- cat first sub/deep/file
	prints $'first\ndeep'
}

@test "what was there before is known at the collecting, too" {
	make_tree
	jobvm pack --fetch block -o job.img -- sh job.sh
	jobvm start job.img --from tree >/dev/null
	[ -s job.img.inputs ]
	jobvm collect -o out job.img
	[ "$(report '[.outputs.changed[].path, .outputs.deleted[].path, .outputs.created[].path] | join(" ")')" \
		= 'first sub/random sub/deep/file sub/new' ]
	# Without it, all that is there now was created.
	rm job.img.inputs
	jobvm collect -o out2 job.img
	[ "$(report '.outputs.changed | length' out2/job.json)" -eq 0 ]
	[ "$(report '.outputs.deleted[].path' out2/job.json)" = sub/deep/file ]
}

@test "lazy inputs and a merge: the tree is as the job left it" {
	make_tree
	# An overlay copies one name of a file up, and the other stays what it was.
	rm tree/sub/link
	cp -a tree native
	(cd native && sh job.sh >/dev/null)
	run --separate-stderr -0 jobvm run --fetch block -i tree/ --merge tree -- sh job.sh
	diff -r --no-dereference native tree
	[ "$(stat -c %a tree/sub/random)" = 600 ]
}

@test "lazy inputs and a merge: what changed meanwhile is not overwritten" {
	make_tree
	jobvm pack --fetch block -o job.img -- sh job.sh
	jobvm start job.img --from tree >/dev/null
	echo mine >tree/first
	run --separate-stderr -125 jobvm collect --merge tree job.img
	says first
	[ "$(cat tree/first)" = mine ]
	[ -e tree/sub/deep/file ]
	jobvm collect --merge tree --merge-force job.img
	[ "$(cat tree/first)" = $'first\nmore' ]
	[ ! -e tree/sub/deep/file ]
}

@test "pack takes along what a trace names, and the rest is fetched" {
	make_tree
	own_cache
	jobvm run --fetch block --trace trace -i tree/ -- cat sub/deep/file first
	printf '%s\n' 'sub/deep/file' '../trace' '/etc/passwd' absent sub/symlink outside sub bin/../first \
		%66irst '' >>trace
	jobvm pack --fetch block --from tree --prefetch trace -o job.img -- \
		sh -c 'cat first sub/deep/file; tail -n 1 numbers; ls -ld --full-time sub/deep; stat -c "%a %n" *'
	[ "$(debugfs -R 'ls -p /input' job.img 2>/dev/null | cut -d/ -f6 | sort | tr -d '\n')" = ...firstsub ]
	run --separate-stderr -0 jobvm start job.img --from tree
	[ "${lines[*]:0:3}" = 'first deep 200000' ]
	[[ "${lines[3]}" == *"$(stat -c %.19y tree/sub/deep)"* ]]
	[ "$(printf '%s\n' "${lines[@]:4}")" = "$(cd tree && stat -c '%a %n' *)" ]
	# Only what was not packed came from the tree.
	[ "$(report .fetch.files_touched job.img.host.json)" -eq 1 ]
	run --separate-stderr -2 jobvm pack --fetch block --prefetch trace -o job2.img -- true
	says "--from names it"
}

@test "a trace that cannot be written costs the trace, and not the job's results" {
	make_tree
	run --separate-stderr -3 jobvm run -o out --fetch block --trace nowhere/trace -i tree/ -- \
		sh -c 'cat first; echo new >new; exit 3'
	prints first
	says nowhere/trace
	[ "$(cat out/output/new)" = new ]
}

@test "a server that goes when the job has read costs the knowledge of what was there, and no result" {
	make_tree
	"$build/jobvm" serve tree --listen "unix:$PWD/socket" 2>served &
	server_pid=$!
	until grep -q serving served; do kill -0 $server_pid; done
	start_job -o out --fetch block --from "nbd+unix:///?socket=$PWD/socket" --fetch-timeout 1 -- sh -c '
		cat first
		head -c 30000000 /dev/zero
		echo new >>first'
	kill -KILL $server_pid
	wait $server_pid || true
	tail -n 1 <&7 >rest
	end_job
	cat stderr
	[ "$code" -eq 0 ]
	[ "$(cat out/output/first)" = $'first\nnew' ]
	[ "$(report .status)" = completed ]
	[ "$(report '.outputs.created[].path')" = first ]
	grep -q "warning:.*counts as created" stderr
}
