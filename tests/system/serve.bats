# `jobvm serve`: a tree as a disk, for good clients and for others.

load helper

client=$build/host-programs/nbd_client

# make_tree: one with a bit of everything.
make_tree() {
	mkdir -p tree/d/e
	seq 100000 >tree/d/numbers
	ln tree/d/numbers tree/hard
	printf tail >tree/d/e/tail
	: >tree/empty
	ln -s /etc/passwd tree/absolute
	ln -s ../outside tree/d/relative
	mkfifo tree/fifo
	truncate -s 20M tree/hole
	seq 9 | dd of=tree/hole bs=1 seek=7000000 conv=notrunc status=none
	mkdir outside
	echo secret >outside/secret
}

wrap=()

# serve [OPTION]... DIR: runs it, by the command ${wrap[@]}, in the background until the test ends, as $serve_pid, when it is
# ready; what it says is in the file `said`. What a shell starts so ignores SIGINT, hence env.
serve() {
	: >said
	env --default-signal=INT "${wrap[@]}" "$build/jobvm" serve "$@" 2>said 3>&- &
	serve_pid=$!
	until grep -q ': serving ' said; do
		kill -0 "$serve_pid" 2>/dev/null || { cat said && return 1; }
		sleep 0.05
	done
	uri=$(sed -n 's/^jobvm: serving \(.*\): [0-9]* files.*/\1/p' said)
	identity=$(sed -n 's/.* identity //p' said)
}

# end_serve [SIGNAL]: ends it; its exit code in $code.
end_serve() {
	code=0
	kill -"${1:-TERM}" "$serve_pid"
	wait "$serve_pid" || code=$?
	serve_pid=
}

teardown() {
	[ -z "${serve_pid:-}" ] || end_serve
	[ -z "${space:-}" ] || ip netns delete "$space-b"
	[ -z "${space:-}" ] || ip netns delete "$space"
}

# block_of PATH: where the first block of a file is on the disk; from a copy that is whole.
block_of() {
	debugfs -R "blocks $1" disk.img 2>/dev/null | awk '{ print $1 * 4096 }'
}

@test "a served tree is a clean file system with the tree's files" {
	make_tree
	serve tree --listen unix:socket
	nbdcopy "$uri" disk.img
	e2fsck -fn disk.img
	mkdir copy
	debugfs -R "rdump / copy" disk.img
	rmdir copy/lost+found 2>/dev/null || true
	rm tree/fifo
	diff -r --no-dereference tree copy
	[ "$(debugfs -R 'stat /fifo' disk.img 2>/dev/null | grep -o 'Type: FIFO')" = "Type: FIFO" ]
	[ "$(debugfs -R 'stat /d/relative' disk.img 2>/dev/null | grep -o '"../outside"')" = '"../outside"' ]
	! grep -q secret disk.img
	[ "$(stat -c %s copy/hole)" -eq 20971520 ]
	[ "$(stat -c %a socket)" = 600 ]
}

@test "the kernel mounts a served disk" {
	needs_root "loop devices"
	make_tree
	serve tree --listen unix:socket
	nbdcopy "$uri" disk.img
	mkdir mounted
	unshare --mount sh -e -c '
		mount -o loop,ro disk.img mounted 2>mount.log || exit 77
		rm tree/fifo
		diff -r --no-dereference --exclude=fifo tree mounted' && code=0 || code=$?
	[ "$code" -ne 77 ] || skip "no loop devices here"
	[ "$code" -eq 0 ]
}

@test "a served tree is told by two exports and no others" {
	make_tree
	serve tree --listen unix:socket
	nbdinfo --list --json "$uri" >list.json
	jq -e --arg id "jobvm-tree-1 $identity" '
		[.exports[] | [."export-name", .description, .is_read_only, .can_multi_conn]] ==
			[["", $id, true, true], ["map", $id, true, true]]' list.json
	[[ $identity =~ ^[0-9a-f]{64}$ ]]
	nbdcopy "${uri/:\/\/\//:///map}" map
	[ "$(head -c 8 map)" = jobvmmap ]
	run ! nbdinfo "${uri/:\/\/\//:///other}"
	# Holes are told as such, so that nobody fetches them.
	nbdinfo --map --totals "$uri" | grep -q "hole,zero"
}

@test "an unchanged tree has the same identity, a touched one another" {
	make_tree
	serve tree
	end_serve
	first=$identity
	serve tree
	end_serve
	[ "$identity" = "$first" ]
	touch tree/d/e/tail
	serve tree
	end_serve
	[ "$identity" != "$first" ]
}

# Each changes tree/d/file, which "jobvm serve" has seen before.
changes=(
	'echo more >>tree/d/file'
	'truncate -s 3 tree/d/file'
	'echo evil >tree/d/file'
	'echo evil >tree/d/file && touch -r reference tree/d/file'
	'rm tree/d/file'
	'cp -p secret tree/d/file.new && mv tree/d/file.new tree/d/file'
	'ln -sf ../../secret tree/d/file'
	'mv tree/d gone && ln -s ../swap tree/d'
	'mv tree/d gone && ln -s "$PWD/swap" tree/d'
)

# hold COUNT: has so many connections open that say nothing, until `release`.
hold() {
	mkfifo hold
	"$client" socket hold "$1" <hold >held 3>&- &
	holder=$!
	exec 8>hold
	until grep -q open held; do
		kill -0 "$holder"
		sleep 0.05
	done
}

release() {
	exec 8>&-
	wait "$holder"
}

# changed_tree: what the changes are for.
changed_tree() {
	rm -rf tree swap gone
	mkdir -p tree/d swap
	echo good >tree/d/file
	echo other >tree/other
	echo evil >secret
	cp secret swap/file
	touch -r tree/d/file reference secret swap/file
}

@test "a file that changes is an error that names it, and never other bytes" {
	for change in "${changes[@]}"; do
		changed_tree
		serve tree --listen unix:socket
		nbdcopy "$uri" disk.img
		end_serve
		# This server has not read it before.
		serve tree --listen unix:socket
		echo "$change"
		eval "$change"
		for again in 1 2; do
			run ! "$client" socket read "$(block_of d/file)" 4096
			[[ "$output" == *"Input/output error"* ]]
			[[ "$output" != *evil* ]]
			[ "$(grep -c 'tree/d/file: has changed since it was exported' said)" -eq 1 ]
		done
		"$client" socket read "$(block_of other)" 4096 | head -n 1 | grep -qx other
		! grep -q tree/other said
		end_serve
	done
}

@test "what a name of a file could do to a terminal is not done" {
	mkdir tree
	name=$'esc\e[31m\nnew'
	echo x >"tree/$name"
	serve tree --listen unix:socket
	echo more >>"tree/$name"
	run ! nbdcopy "$uri" disk.img
	grep -F 'esc\x1b[31m\x0anew: has changed' said
	! grep -q $'\e' said
}

@test "clients that do what they want leave a server that serves" {
	make_tree
	# More than what one question about extents can be about.
	fallocate -l 5G tree/large 2>/dev/null || skip "no room for 5 GiB here"
	serve tree --listen unix:socket
	"$client" socket read 0 65536 >before
	local aborts=0
	until "$client" socket hostile; do
		# Only ever because nbdkit aborted, and it serves again.
		[ "$(grep -c 'is started again' said)" -gt "$aborts" ] || { cat said && return 1; }
		aborts=$((aborts + 1))
	done
	kill -0 "$serve_pid"
	"$client" socket read 0 65536 | cmp - before
	hold 3000
	"$client" socket read 0 65536 | cmp - before
	release
	"$client" socket read 0 65536 | cmp - before
	nbdinfo --size "$uri"
	end_serve
	[ "$code" -eq 0 ]
}

@test "a server that may open few files goes on when they were used up" {
	make_tree
	wrap=(prlimit --nofile=60:60)
	serve tree --listen unix:socket
	"$client" socket read 0 65536 >before
	hold 200
	release
	"$client" socket read 0 65536 | cmp - before
}

@test "signals end it, and nothing is left" {
	make_tree
	for signal in INT TERM HUP; do
		serve tree --listen unix:socket
		server=$(pgrep -P "$serve_pid" nbdkit)
		end_serve $signal
		[ "$code" -eq 0 ]
		[ ! -e socket ]
		! kill -0 "$server" 2>/dev/null
	done
	[ -z "$(find . -name '*jobvm*')" ]
}

@test "a server dies with its parent" {
	make_tree
	serve tree --listen unix:socket
	server=$(pgrep -P "$serve_pid" nbdkit)
	kill -KILL "$serve_pid"
	wait "$serve_pid" || true
	serve_pid=
	# Its end is what makes this return.
	tail --pid="$server" -f /dev/null
	# The socket that is left is taken over; one that is in use is not.
	[ -S socket ]
	serve tree --listen unix:socket
	nbdinfo --size "$uri"
	run --separate-stderr -125 jobvm serve tree --listen unix:socket
	says "make the socket socket: Address already in use"
	nbdinfo --size "$uri"
	echo precious >file
	run --separate-stderr -125 jobvm serve tree --listen unix:file
	[ "$(cat file)" = precious ]
}

@test "a server that a client has brought to abort is started again" {
	make_tree
	serve tree --listen unix:socket
	"$client" socket read 0 65536 >before
	local first
	first=$(pgrep -P "$serve_pid" nbdkit)
	kill -ABRT "$first"
	"$client" socket read 0 65536 | cmp - before
	[ "$(pgrep -P "$serve_pid" nbdkit)" != "$first" ]
	grep -q "the server was ended by signal 6, and is started again" said
	kill -0 "$serve_pid"
}

@test "a server that dies by itself is a failure" {
	make_tree
	serve tree --listen unix:socket
	kill -KILL "$(pgrep -P "$serve_pid" nbdkit)"
	code=0
	wait "$serve_pid" || code=$?
	serve_pid=
	[ "$code" -eq 125 ]
	grep -q "the server was ended by signal 9" said
	[ ! -e socket ]
}

@test "what cannot be served is said" {
	make_tree
	run --separate-stderr -2 jobvm serve
	says "name a directory"
	run --separate-stderr -2 jobvm serve tree --user nobody
	says "none of job, root"
	run --separate-stderr -125 jobvm serve nowhere
	says "nowhere/': No such file or directory"
	run --separate-stderr -125 jobvm serve tree/empty
	says "Not a directory"
	run --separate-stderr -125 jobvm serve tree --listen "unix:$(printf 'x%.0s' {1..200})"
	says "cannot be a socket"
	for address in 0.0.0.0:0 :0 '[::]:0'; do
		run --separate-stderr -125 jobvm serve tree --listen "$address"
		says "can be reached from elsewhere: --tls-certificates is needed there"
	done
	for address in socket localhost ::1 localhost: nowhere.invalid:1; do
		run --separate-stderr -125 jobvm serve tree --listen "$address"
		says "'$address'"
	done
	JOBVM_NBDKIT=/nowhere run --separate-stderr -125 jobvm serve tree
	says '$JOBVM_NBDKIT: cannot execute /nowhere'
	JOBVM_NBDKIT=/bin/true run --separate-stderr -125 jobvm serve tree
	says "the server ended with exit code 0"
	[ -z "$(find /tmp -maxdepth 1 -name "jobvm-serve-*.sock" -newer tree/empty)" ]
}

@test "inputs are named as those of a job" {
	make_tree
	serve -i tree/d -i tree/d/e/ --user root --listen unix:socket
	nbdcopy "$uri" disk.img
	e2fsck -fn disk.img
	[ "$(debugfs -R 'cat /d/e/tail' disk.img 2>/dev/null)" = tail ]
	[ "$(debugfs -R 'cat /tail' disk.img 2>/dev/null)" = tail ]
	debugfs -R 'stat /tail' disk.img 2>/dev/null | grep -q 'User: *0 *Group: *0'
}

@test "a loopback address serves without certificates" {
	make_tree
	serve tree --listen 127.0.0.1:0
	[[ $uri == nbd://127.0.0.1:* ]]
	nbdcopy "$uri" disk.img
	e2fsck -fn disk.img
}

# --- TLS ---

# authority NAME
authority() {
	certtool --generate-privkey --outfile "$1-key.pem" 2>certtool.log
	printf '%s\n' "cn = $1" ca cert_signing_key 'expiration_days = 10' >"$1.info"
	certtool --generate-self-signed --load-privkey "$1-key.pem" --template "$1.info" \
		--outfile "$1-cert.pem" 2>certtool.log
}

# certificate AUTHORITY DIRECTORY server|client ADDRESS: and its key, beside the CA's.
certificate() {
	mkdir -p "$2"
	cp ca-cert.pem "$2"
	certtool --generate-privkey --outfile "$2/$3-key.pem" 2>certtool.log
	printf '%s\n' "cn = $3" "ip_address = $4" tls_www_server tls_www_client signing_key \
		encryption_key 'expiration_days = 10' >leaf.info
	certtool --generate-certificate --load-privkey "$2/$3-key.pem" \
		--load-ca-certificate "$1-cert.pem" --load-ca-privkey "$1-key.pem" \
		--template leaf.info --outfile "$2/$3-cert.pem" 2>certtool.log
}

make_certificates() {
	authority ca
	authority other
	certificate ca server server "$1"
	certificate ca member client "$2"
	certificate other stranger client "$2"
	mkdir nobody
	cp ca-cert.pem nobody
}

# only_members READ...: who may read by the server's address, run by READ.
only_members() {
	local from=("$@")
	"${from[@]}" nbdcopy "$uri/?tls-certificates=$PWD/member" disk.img
	e2fsck -fn disk.img
	for who in stranger nobody; do
		run ! "${from[@]}" timeout 60 nbdinfo "$uri/?tls-certificates=$PWD/$who"
		[[ "$output" != *jobvm-tree* ]]
	done
	run ! "${from[@]}" timeout 60 nbdinfo "nbd${uri#nbds}"
	[[ "$output" != *jobvm-tree* ]]
	"${from[@]}" nbdinfo "$uri/?tls-certificates=$PWD/member" | grep -q "jobvm-tree-1 $identity"
}

@test "only clients with a certificate read by TLS" {
	make_tree
	make_certificates 127.0.0.1 127.0.0.1
	serve tree --listen 127.0.0.1:0 --tls-certificates server
	[[ $uri == nbds://127.0.0.1:* ]]
	only_members
	rm server/server-key.pem
	run --separate-stderr -125 jobvm serve tree --listen 127.0.0.1:0 --tls-certificates server
	says "server/server-key.pem: No such file"
}

@test "a machine reads from another by TLS" {
	needs_root "network namespaces"
	make_tree
	make_certificates 10.77.0.1 10.77.0.2
	space=jobvm-test-$$
	ip netns add "$space" 2>/dev/null || skip "no network namespaces here"
	ip netns add "$space-b"
	ip -n "$space" link add name near type veth peer name far netns "$space-b"
	ip -n "$space" address add 10.77.0.1/24 dev near
	ip -n "$space-b" address add 10.77.0.2/24 dev far
	ip -n "$space" link set near up
	ip -n "$space-b" link set far up
	wrap=(ip netns exec "$space")
	serve tree --listen 10.77.0.1:10809 --tls-certificates server
	[ "$uri" = nbds://10.77.0.1:10809 ]
	only_members ip netns exec "$space-b"
	# And so does a job there.
	for policy in block file; do
		run --separate-stderr -0 ip netns exec "$space-b" "$build/jobvm" run --fetch "$policy" \
			--from "$uri" --tls-certificates member -- sh -c 'tail -n 1 d/numbers; cat d/e/tail'
		prints $'100000\ntail'
	done
	for who in stranger nobody; do
		run --separate-stderr -125 ip netns exec "$space-b" "$build/jobvm" run --fetch block \
			--from "$uri" --tls-certificates "$who" --fetch-timeout 5 -- true
		says "$uri"
	done
}
