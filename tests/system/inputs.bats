# Inputs come as they are, and what the job changes shows as exactly that.
load helper

# The directory `tree`: every kind of file, its times, holes and odd names.
make_tree() {
	mkdir -p tree/deep/er
	echo content >tree/file
	chmod 640 tree/file
	touch -d '2001-02-03 04:05:06.789 UTC' tree/file
	echo run >tree/script
	chmod 755 tree/script
	ln -s file tree/link
	ln -s /no/where tree/dangling
	ln tree/file tree/deep/hard
	truncate -s 50M tree/holes
	echo end >>tree/holes
	: >tree/empty
	chmod 750 tree/deep/er
	touch -d '1999-12-31 23:59:59 UTC' tree/deep/er
}

# changes KIND [FILE]: the paths of that kind in job.json, one a line.
changes() {
	report ".outputs.$1[].path" "${2:-out/job.json}"
}

@test "names, modes, times, links and holes of inputs are kept" {
	make_tree
	run --separate-stderr -0 jobvm run -i tree -- sh -c '
		cd tree && find . | sort | xargs stat -c "%n %F %a %s" &&
		stat -c %y file deep/er && readlink link && readlink dangling &&
		[ file -ef deep/hard ] && stat -c %h file && du -k holes | cut -f1 && tail -c 4 holes'
	prints "$(cd tree && find . | LC_ALL=C sort | xargs stat -c '%n %F %a %s' &&
		TZ=UTC stat -c %y file deep/er && readlink link dangling &&
		echo 2 && echo 4 && echo end)"
}

@test "DIR packs the directory, DIR/ and . its contents, FILE itself" {
	mkdir -p in/sub
	echo 1 >in/a
	echo 2 >in/sub/b
	echo 3 >f
	run --separate-stderr -0 jobvm run -i in -i f -- sh -c 'find . -type f | sort'
	prints $'./f\n./in/a\n./in/sub/b'
	run --separate-stderr -0 jobvm run -i in/ -- sh -c 'find . -type f | sort'
	prints $'./a\n./sub/b'
	cd in
	run --separate-stderr -0 jobvm run -i . -- sh -c 'find . -type f | sort'
	prints $'./a\n./sub/b'
}

@test "names with newlines, bytes that are not UTF-8, 255 bytes, leading dashes" {
	long=$(printf 'n%.0s' {1..255})
	mkdir in
	for name in $'new\nline' $'\xff\xfe\x80' "$long" -dash ' blank ' '%41' '"quoted"' \\; do
		printf '%s' "$name" >"in/$name"
	done
	run --separate-stderr -0 jobvm run -i in -o out -- sh -c 'cp -r in copy; rm -f in/*'
	diff -r in out/output/copy
	[ "$(changes created | sort | head -n 1)" = copy ]
	[ "$(report '.outputs.deleted | length')" -eq 8 ]
	[ "$(report '.outputs.created[] | select(.path_hex) | .path_hex')" = "$(printf 'copy/\xff\xfe\x80' | od -An -tx1 | tr -d ' \n')" ]
	# What a person sees is escaped.
	run --separate-stderr -0 jobvm run -i in --env "A=$(printf '\033[31m')" -- sh -c 'exit 0'
	[ -z "$stderr" ]
}

@test "created, changed and deleted show as that, and unchanged inputs do not come back" {
	mkdir -p in/dir in/gone
	for f in same edited touched moded removed dir/inner gone/inner; do echo old >"in/$f"; done
	ln -s same in/link
	jobvm pack -i in/ -o job.img -- sh -c '
		echo new >created; mkdir newdir; echo x >newdir/file; ln -s created newlink
		echo more >>edited; touch touched; chmod 600 moded; rm removed; rm -r gone
		cat same >/dev/null; : >>same; mv dir/inner dir/moved; ln -sf edited link
		mkfifo pipe; echo t >temporary; rm temporary'
	jobvm start job.img
	run --separate-stderr -0 jobvm collect -o out job.img
	says "pipe (fifo)"

	[ "$(changes created | tr '\n' ' ')" = "created dir/moved newdir newdir/file newlink pipe " ]
	[ "$(changes changed | tr '\n' ' ')" = "edited link moded touched " ]
	[ "$(changes deleted | tr '\n' ' ')" = "dir/inner gone gone/inner removed " ]
	[ "$(cd out/output && find . -mindepth 1 | LC_ALL=C sort | tr '\n' ' ')" = \
		"./created ./dir ./dir/moved ./edited ./link ./moded ./newdir ./newdir/file ./newlink ./touched " ]
	[ "$(stat -c %a out/output/moded)" = 600 ]
	[ "$(readlink out/output/link)" = edited ]
	[ "$(cat out/output/edited)" = $'old\nmore' ]

	run --separate-stderr -0 jobvm inspect job.img
	[ "$(grep -c '^created ' <<<"$output")" -eq 6 ]
	[ "$(grep -c '^changed ' <<<"$output")" -eq 4 ]
	[ "$(grep -c '^deleted ' <<<"$output")" -eq 4 ]
}

@test "a directory that is made anew hides the old one" {
	mkdir -p in/d
	echo old >in/d/old
	run --separate-stderr -0 jobvm run -i in/ -o out -- sh -c 'rm -r d; mkdir d; echo new >d/new'
	[ "$(changes created)" = d/new ]
	[ "$(changes deleted)" = d/old ]
	[ "$(ls out/output/d)" = new ]
}

@test "holes and times of outputs are kept" {
	run --separate-stderr -0 jobvm run -o out -- sh -c '
		dd if=/dev/zero of=holes bs=1 count=1 seek=50M 2>/dev/null
		touch -d "2001-02-03 04:05:06" file; chmod 4755 file'
	[ "$(stat -c %s out/output/holes)" -eq 52428801 ]
	[ "$(du -k out/output/holes | cut -f1)" -lt 100 ]
	[ "$(stat -c %Y out/output/file)" -eq 981173106 ]
	# Set-user-ID does not come out of a VM.
	[ "$(stat -c %a out/output/file)" = 755 ]
}

@test "declared outputs come by name, directories whole, remapped" {
	run --separate-stderr -0 jobvm run -o out \
		--transfer-output-files 'a, d/b, d/sub, tree/' --transfer-output-remaps 'a = z/renamed' -- sh -c '
		mkdir -p d/sub tree/t other; echo 1 >a; echo 2 >d/b; echo 3 >d/sub/c; echo 4 >tree/t/e; echo 5 >other/f'
	[ "$(cd out/output && find . -type f | LC_ALL=C sort | tr '\n' ' ')" = "./b ./sub/c ./t/e ./z/renamed " ]
}

@test "preserve_relative_paths keeps directories" {
	run --separate-stderr -0 jobvm run -o out --transfer-output-files 'd/b' \
		--preserve-relative-paths -- sh -c 'mkdir d; echo 2 >d/b'
	[ "$(cat out/output/d/b)" = 2 ]
}

@test "declared outputs that are missing fail the run, and all others are collected" {
	for code in 0 9; do
		run --separate-stderr -125 jobvm run -o "out$code" --transfer-output-files 'here, not-here, nor-here' -- \
			sh -c "echo 1 >here; exit $code"
		says "'not-here'"
		says "'nor-here'"
		[ "$(cat "out$code/output/here")" = 1 ]
		[ "$(report '.outputs.missing | join(" ")' "out$code/job.json")" = "not-here nor-here" ]
		[ "$(report .exit_code "out$code/job.json")" -eq 125 ]
		[ "$(report .guest.exit_code "out$code/job.json")" -eq "$code" ]
	done
}

@test "ON_SUCCESS: a job that failed has no outputs, and its own exit code" {
	run --separate-stderr -9 jobvm run -o out --when-to-transfer-output ON_SUCCESS \
		--transfer-output-files 'here, not-here' -- sh -c 'echo 1 >here; exit 9'
	[ ! -e out/output ]
	[ -z "$stderr" ]
}

@test "too much output: 125, what was collected is marked partial" {
	run --separate-stderr -125 jobvm run -o out --max-transfer-output-mb 1 -- sh -c '
		echo small >a; dd if=/dev/zero of=b bs=1M count=3 2>/dev/null'
	says "max_transfer_output_mb"
	[ "$(report .outputs.partial)" = true ]
	[ "$(cat out/output/a)" = small ]
	[ ! -e out/output/b ]
}

@test "an output that leaves the workspace by a symlink stays inside" {
	echo secret >secret
	run --separate-stderr -0 jobvm run -o out -- sh -c "
		ln -s $PWD/secret link; ln -s / rootdir; mkdir d; ln -s ../../.. d/up; ln -s . d/self"
	[ -L out/output/link ]
	[ -L out/output/rootdir ]
	[ -L out/output/d/up ]
	[ "$(cat secret)" = secret ]
}

@test "inputs that are missing or cannot be read are named" {
	run --separate-stderr -125 jobvm run -o out -i no-such-file -- true
	says "no-such-file"
	[ ! -e out ]
	# Root can read everything: there another user packs, who must reach the directory.
	user=()
	[ "$(id -u)" -ne 0 ] || user=(setpriv --reuid 65534 --regid 65534 --clear-groups)
	in=$(mktemp -d /tmp/jobvm-in.XXXXXX)
	chmod 755 "$in"
	echo x >"$in/unreadable"
	chmod 0 "$in/unreadable"
	run --separate-stderr -125 "${user[@]}" env TMPDIR=/tmp "$build/jobvm" run -i "$in" -- true
	rm -rf "$in"
	says "unreadable"
	says "Permission denied"
}

# start_packing: packs `in`, and returns when the first file's data is being copied: by then all
# names, sizes and times have been read.
start_packing() {
	mkdir in
	head -c 400M /dev/zero | tr '\0' x >in/a-large
	echo "as it was" >in/later
	"$build/jobvm" pack -i in -o job.img -- true 2>stderr &
	jobvm_pid=$!
	until readlink "/proc/$jobvm_pid/fd/"* 2>/dev/null | grep -q a-large; do
		kill -0 "$jobvm_pid"
	done
}

@test "an input that changes, shrinks or goes while it is packed is an error that names it" {
	for change in 'echo more >>in/later' ': >in/later' 'rm in/later' 'truncate -s 1M in/a-large'; do
		rm -rf in
		start_packing
		eval "$change"
		code=0
		wait "$jobvm_pid" || code=$?
		[ "$code" -eq 125 ]
		grep -qE 'in/(later|a-large)' stderr
		[ ! -e job.img ]
	done
}

@test "a packer that is killed leaves nothing behind" {
	start_packing
	kill -KILL "$jobvm_pid"
	wait "$jobvm_pid" || true
	run ls -A
	prints $'in\nstderr'
}

@test "a disk that is too small for its inputs is refused, with both sizes" {
	head -c 5M /dev/zero | tr '\0' x >big
	run --separate-stderr -125 jobvm run -i big --request-disk 1M -- true
	says "5242880"
	says "1048576"
	run --separate-stderr -125 jobvm run -i big --max-transfer-input-mb 1 -- true
	says "max_transfer_input_mb"
}

@test "a full host disk: packing and collecting say so and leave no half files" {
	needs_small_disk
	head -c 20M /dev/urandom >big
	run --separate-stderr -125 small_disk 10m "$build/jobvm" pack -i big -o small/job.img -- true
	says "full"
	run --separate-stderr -0 jobvm pack -o job.img -- dd if=/dev/urandom of=big bs=1M count=20
	run --separate-stderr -0 jobvm start job.img
	run --separate-stderr -125 small_disk 5m sh -c '"$0" collect -o small/out job.img; code=$?; ls small/out/output; exit $code' "$build/jobvm"
	says "full"
	says "out/output/big"
	prints ""
}
