# What a job left behind, on its way to the host: nothing lands outside of the directory of the
# results, and nothing that is more than a file, a directory or a symlink.
load helper

programs=$build/host-programs
few=$build/few/jobvm

# packed_and_run OPTION... -- COMMAND: its disk is job.img.
packed_and_run() {
	jobvm pack -o job.img "$@"
	jobvm start job.img
}

@test "no symlink that a job left leads a result outside" {
	mkdir sentinel
	echo secret >secret
	packed_and_run -- sh -c "
		ln -s $PWD/sentinel absolute; ln -s ../../sentinel up; ln -s up chained; ln -s chained more
		mkdir d; ln -s ../../../sentinel d/up; ln -s $PWD/secret secret; ln -s loop loop"
	run --separate-stderr -0 jobvm collect -o out job.img
	[ -z "$(ls sentinel)" ]
	[ "$(cat secret)" = secret ]
	[ "$(readlink out/output/absolute)" = "$PWD/sentinel" ]
	[ "$(readlink out/output/more)" = chained ]
	[ "$(readlink out/output/d/up)" = ../../../sentinel ]
	[ "$(readlink out/output/loop)" = loop ]
}

@test "no symlink that lay in initialdir leads a result outside" {
	mkdir sentinel initial initial/really
	ln -s ../sentinel initial/relative
	ln -s "$PWD/sentinel" initial/absolute
	ln -s absolute initial/chained
	ln -s ../sentinel/x initial/file
	for name in relative absolute chained; do
		printf '%s\n' 'executable = /bin/sh' 'transfer_executable = false' \
			"arguments = \"-c 'mkdir $name; echo data >$name/x; echo data >file'\"" \
			'initialdir = initial' queue >job.sub
		run --separate-stderr -125 jobvm run job.sub
		says "$name"
		[ -z "$(ls sentinel)" ]
	done
	# A link in a file's own place is replaced.
	printf '%s\n' 'executable = /bin/sh' 'transfer_executable = false' \
		"arguments = \"-c 'echo data >file'\"" 'initialdir = initial' queue >job.sub
	run --separate-stderr -0 jobvm run job.sub
	[ "$(cat initial/file)" = data ]
	[ ! -L initial/file ]
	[ -z "$(ls sentinel)" ]
}

# swap_while COMMAND...: collects again and again while a process exchanges the directories of the
# results for a symlink that leads outside.
swap_while() {
	local swapper
	mkfifo ready
	for ((i = 0; i < ${JOBVM_SWAPS:-20}; i++)); do
		rm -rf out link
		ln -s "$PWD/sentinel" link
		"$programs/swap" link out/output out/output/d out/output/d/e out/output/d/e/f >ready &
		swapper=$!
		read -r <ready
		"$@" -o out job.img 2>said || true
		kill "$swapper"
		wait "$swapper" || true
		[ -z "$(find sentinel -mindepth 1)" ] || return 1
	done
	rm ready
}

@test "a process that swaps directories for symlinks gets nothing written outside" {
	mkdir sentinel
	packed_and_run -- sh -c 'mkdir -p d/e/f; for i in $(seq 100); do
		echo x >d/$i; echo x >d/e/$i; echo x >d/e/f/$i; ln -s / d/e/l$i; done'
	swap_while "$build/jobvm" collect
	# Landlock stops what the paths' resolution lets through: without it, that has to hold alone.
	swap_while "$programs/without-landlock" "$build/jobvm" collect --without-landlock
}

@test "a destination that is a symlink or not empty is refused and not touched" {
	mkdir sentinel full
	echo precious >full/file
	ln -s sentinel link
	ln -s nowhere dangling
	packed_and_run -- sh -c 'echo data >file'
	for directory in link link/ link// dangling dangling/ full full/ full/file; do
		run --separate-stderr -125 jobvm collect -o "$directory" job.img
		says "output directory $directory"
		run --separate-stderr -125 jobvm run -o "$directory" -- true
		says "output directory $directory"
	done
	[ -z "$(ls sentinel)" ]
	[ "$(ls full)" = file ]
	[ "$(cat full/file)" = precious ]
	[ ! -e nowhere ]
}

# Nothing special lies in the results, and the report names what was left behind.
is_plain() {
	[ -z "$(find out -perm /7000)" ]
	[ -z "$(find out ! -type f ! -type d ! -type l)" ]
	[ -z "$(find out ! -user "$(id -u)")" ]
	[ -z "$(getfattr -R -h -d -m - out 2>/dev/null)" ]
	[ -z "$(lsattr -R out 2>/dev/null | grep -E '^[-a-zA-Z]*[ia][-a-zA-Z]* ' | grep -E '^....i|^.....a')" ]
	for name in set-user-id set-group-id capability acl owner; do
		[ "$(cat "out/output/$name")" = x ]
	done
	[ "$(stat -c %a out/output/set-user-id)" = 755 ]
	[ "$(stat -c %a out/output/sticky)" = 777 ]
	[ "$(report '.outputs.partial')" = false ]
}

@test "what root makes in a job leaves it as plain files" {
	run --separate-stderr -0 jobvm run -o out -i "$build/guest-programs/special" --user root -- ./special
	[ "$output" = $'device\nblock\nimmutable' ]
	is_plain
	[ "$(report '.outputs.skipped | join(", ")')" = "output/fifo (fifo), output/socket (socket)" ]
	says "not collected: output/fifo (fifo)"
}

@test "what a privileged job makes leaves it as plain files" {
	run --separate-stderr -0 jobvm run -o out -i "$build/guest-programs/special" --user root --privileged -- ./special
	[ -z "$output" ]
	is_plain
	[ "$(cat out/output/immutable)" = x ]
	[ "$(report '.outputs.skipped | join(", ")')" = \
		"output/block (block device), output/device (character device), output/fifo (fifo), output/socket (socket)" ]
}

@test "the cap of bytes stops collecting, with its key and what came so far" {
	run --separate-stderr -125 jobvm run -o out --max-transfer-output-mb 1 -- sh -c '
		echo small >a; dd if=/dev/zero of=b bs=1M count=3 2>/dev/null; echo small >c'
	[ "$(report .outputs.partial)" = true ]
	[ "$(report .outputs.partial_limit)" = max_transfer_output_mb ]
	[[ "$(report .outputs.partial_reason)" == *"output 'output/b' (3145728 bytes)"* ]]
	[ "$(report '[.outputs.collected[].path] | sort | join(" ")')" = "output/a stderr stdout" ]
	[ "$(cd out && find . -type f | LC_ALL=C sort | tr '\n' ' ')" = "./job.json ./output/a ./stderr ./stdout " ]
	[ "$(report .status)" = completed ]
}

@test "each name of a file becomes a file of its own, and counts by itself" {
	packed_and_run --max-transfer-output-mb 3 -- sh -c '
		head -c 1048576 /dev/urandom >a; mkdir d; ln a b; ln a d/c'
	run --separate-stderr -0 jobvm collect -o out job.img
	cmp out/output/a out/output/b
	cmp out/output/a out/output/d/c
	[ "$(find out/output -type f -links 1 | wc -l)" -eq 3 ]
	[ "$(report '.outputs.collected[] | select(.sha256 != null and .size_bytes == 1048576).path' |
		xargs)" = "output/a output/b output/d/c" ]
	run --separate-stderr -0 jobvm verify out
	# One more is too much, though it takes no room on the job disk.
	rm job.img job.img.host.json
	packed_and_run --max-transfer-output-mb 3 -- sh -c '
		head -c 1048576 /dev/urandom >a; ln a b; ln a c; ln a d'
	run --separate-stderr -125 jobvm collect -o out2 job.img
	[ "$(report '.outputs.partial_limit' out2/job.json)" = max_transfer_output_mb ]
	[ "$(ls out2/output | xargs)" = "a b c" ]
}

@test "the cap of files stops collecting, with its key and what came so far" {
	packed_and_run -- sh -c 'for i in $(seq -w 30); do echo $i >$i; done'
	run --separate-stderr -125 "$few" collect -o out job.img
	[ "$(report .outputs.partial_limit)" = files ]
	[ "$(report .outputs.partial_reason)" = "the job has more than 20 outputs" ]
	[ "$(report .outputs.cut_off)" = true ]
	[ "$(report '.outputs.created | length')" -eq 20 ]
	[ "$(ls out/output | wc -l)" -eq 20 ]
	[ "$(cat out/output/20)" = 20 ]
	[ "$(report '[.outputs.collected[] | select(.path | startswith("output/"))] | length')" -eq 20 ]
	run --separate-stderr -0 "$few" inspect job.img
	[[ "$output" == *"more than 20 changes"* ]]
	# Declared ones are counted too.
	jobvm pack -o declared.img --transfer-output-files d -- sh -c 'mkdir d; for i in $(seq -w 30); do echo $i >d/$i; done'
	jobvm start declared.img
	run --separate-stderr -125 "$few" collect -o declared declared.img
	[ "$(report .outputs.partial_limit declared/job.json)" = files ]
	[ "$(find declared/output -type f | wc -l)" -eq 19 ]
	# As many as there may be are no error.
	jobvm pack -o just.img -- sh -c 'for i in $(seq 20); do echo $i >$i; done'
	jobvm start just.img
	run --separate-stderr -0 "$few" collect -o just just.img
	[ "$(report .outputs.partial just/job.json)" = false ]
	[ "$(report .outputs.partial_reason just/job.json)" = null ]
}

@test "names are escaped where they are shown, and whole in JSON" {
	# An escape sequence, a line's end, U+202E, bytes that are not UTF-8, a quote and a backslash.
	names=($'\e]0;title\a' $'line\nend' $'\u202egnp.exe' $'not\xff\xfeutf' '"quoted\' $'\u009b31m')
	shown=('\x1b]0;title\x07' 'line\x0aend' '\xe2\x80\xaegnp.exe' 'not\xff\xfeutf' '"quoted\' '\xc2\x9b31m')
	jobvm pack -o job.img --user root -- sh -c 'for name; do echo x >"$name"; mkfifo "$name.fifo"; done' sh "${names[@]}"
	jobvm start job.img
	run --separate-stderr -0 jobvm inspect job.img
	for name in "${shown[@]}"; do
		[[ "$output" == *"  $name"$'\n'* ]]
	done
	[ -z "$(tr -d '\n\040-\176' <<<"$output$stderr")" ]
	run --separate-stderr -0 jobvm collect -o out job.img
	for name in "${shown[@]}"; do
		says "not collected: output/$name.fifo (fifo)"
	done
	[ -z "$(tr -d '\n\040-\176' <<<"$output$stderr")" ]
	jobvm inspect --json job.img >inspected.json
	for json in out/job.json inspected.json; do
		[ "$(jq '.outputs.created | length' $json)" -eq 12 ]
		[ "$(jq -r '.outputs.created[] | select(.path_hex) | .path_hex' $json | sort)" = \
			$'6e6f74fffe757466\n6e6f74fffe7574662e6669666f' ]
	done
	for name in "${names[@]}"; do
		[ "$(cat "out/output/$name")" = x ]
		[ "$name" = $'not\xff\xfeutf' ] ||
			jq -e --arg path "output/$name" '.outputs.collected | any(.path == $path)' out/job.json >/dev/null
	done
}

@test "names are escaped in what a terminal shows while collecting" {
	jobvm pack -o job.img --request-disk 200M -- sh -c 'for i in 1 2 3 4 5 6; do
		dd if=/dev/urandom of="$(printf "\033[31m\n%s" $i)" bs=1M count=16 2>/dev/null; done'
	jobvm start job.img
	# Slow enough for progress to be shown.
	run -0 script -qec "strace -f -qq -o /dev/null '$build/jobvm' collect -o out job.img" /dev/null
	[[ "$output" == *'jobvm: collecting: '* ]] || skip "this host collects faster than progress is shown"
	[[ "$output" == *'\x1b[31m\x0a'* ]]
	[[ "$output" != *$'\e[31m'* ]]
}
