# The command line, without a VM.
load helper

commands=(run pack start inspect collect recover suspend verify "image build" "image inspect" serve node doctor)

@test "every command has a help" {
	for command in "${commands[@]}"; do
		run --separate-stderr -0 jobvm $command --help
		[[ "$output" == "Usage: jobvm $command"* ]]
	done
	run --separate-stderr -0 jobvm --help
	for command in "${commands[@]}"; do
		[[ "$output" == *"  $command "* ]]
	done
}

@test "every command and format has a manual page" {
	for command in "${commands[@]}"; do
		page=$root/docs/man/jobvm-${command// /-}.1
		mandoc -Tlint -W warning "$page"
	done
	for page in jobvm.1 jobvm-submit.5 jobvm-result.5 jobvm-slurm.7; do
		mandoc -Tlint -W warning "$root/docs/man/$page"
	done
}

@test "every option of --help stands in the manual page" {
	for command in "${commands[@]}"; do
		mandoc -Tutf8 "$root/docs/man/jobvm-${command// /-}.1" | sed "s/.\x08//g" >page
		# The options of a job stand in one page.
		[ "$command" != pack ] || mandoc -Tutf8 "$root/docs/man/jobvm-run.1" | sed "s/.\x08//g" >>page
		for option in $(jobvm $command --help | grep -oE -- '--?[a-z][a-z-]+' | sort -u); do
			grep -qF -- "$option" page || { echo "$command: $option"; return 1; }
		done
	done
}

@test "wrong command lines exit with 2 and a hint" {
	for line in "" "nonsense" "run" "run --" "run --no-such-option -- true" "run -o" "run stray -- true" \
		"run --request-memory lots -- true" "run --request-cpus 0 -- true" \
		"run --allowed-execute-duration soon -- true" "run --kill-sig NOSUCH -- true" \
		"run --user nobody -- true" "run --env NOVALUE -- true" "run --accel warp -- true" \
		"run --request-memory 1K -- true" "run --privileged -- true" \
		"run --arguments x -- true" "run --executable x -- true" "run --stdout f -o d -- true" "run --transfer-output-remaps a=/b -- true" \
		"run --transfer-output-remaps a=../b -- true" "pack -- true" "pack -o a.img" "start" "start a b" "inspect" "collect x" "recover" "recover a b" "recover --user root a.img" "verify" "verify a b" "verify --key" \
		"start --request-memory 1G a.img" "image" "image build" "image inspect" "doctor x" \
		"image build -o i --size 0" "image build -o i --size big" "image build -o i --size 4097" \
		"image build -o i --size 1.5" "image build -o i --size 16T" "image build -o i --size 99999999T"; do
		run --separate-stderr -2 jobvm $line
		[ -n "$stderr" ] || { echo "nothing said: $line"; return 1; }
		[ -z "$output" ]
	done
}

@test "how a recovery starts cannot be chosen" {
	for command in recover "collect -o out"; do
		for how in auto clone cold; do
			run --separate-stderr -2 jobvm $command --start $how job.img
			says "a recovery is always booted"
		done
	done
	run --separate-stderr -125 jobvm start --start cold job.img
	says "job.img"
}

@test "an unknown key of a submit description is an error with place and the nearest name" {
	printf 'executable = /bin/true\nrequest_memmory = 1G\nqueue\n' >job.sub
	run --separate-stderr -2 jobvm run job.sub
	says "job.sub:2:"
	says "request_memory"
	printf 'executable = /bin/true\nrequest_memory = 1X\nqueue\n' >job.sub
	run --separate-stderr -2 jobvm run job.sub
	says "job.sub:2: key 'request_memory'"
	run --separate-stderr -2 jobvm run missing.sub
	says "missing.sub"
}

@test "an output directory that is not empty is refused and not touched" {
	mkdir out
	echo precious >out/file
	run --separate-stderr -125 jobvm run -o out -- true
	says "out"
	says "not empty"
	run ls out
	prints file
	run --separate-stderr -125 jobvm run -o no/such/out -- true
	says "no/such/out"
}

@test "a missing or foreign guest image is refused by name" {
	run --separate-stderr -125 jobvm run --image no-such-image -- true
	says "no-such-image"
	mkdir foreign
	run --separate-stderr -125 jobvm run --image foreign -- true
	says "foreign"
	echo '{"format_version": 99}' >foreign/image.json
	run --separate-stderr -125 jobvm run --image foreign -- true
	says "foreign/image.json"
	JOBVM_IMAGE=$PWD/from-environment run --separate-stderr -125 jobvm run -- true
	says "from-environment"
}

@test "--require-isolation hardware refuses emulation" {
	run --separate-stderr -125 jobvm run --accel tcg --require-isolation hardware -- true
	says "TCG is emulation"
}

@test "image build and inspect: a directory becomes an image, half ones do not stay" {
	mkdir -p tree/etc
	echo hello >tree/etc/motd
	jobvm image build --from tree -o image
	run --separate-stderr -0 jobvm image inspect image
	[[ "$output" == *"release"* ]]
	[ "$(jobvm image inspect --json image | jq -r .machine)" = pc ]
	run --separate-stderr -125 jobvm image build --from tree -o image
	says "exists already"
	run --separate-stderr -125 jobvm image build --from no-such-tree -o other
	says "no-such-tree"
	run --separate-stderr -125 jobvm image build --from tree --kernel tree/etc/motd -o other
	says "tree/etc/motd"
	run ls
	prints $'image\ntree'
}

# No name stands there but those that are given.
has_only() {
	run ls -A
	prints "$(printf '%s\n' "$@")"
}

@test "image build --size: what is too small is refused with the size that suffices" {
	mkdir tree
	head -c 3000000 /dev/urandom >tree/data
	touch -d @1000 tree/data
	run --separate-stderr -125 jobvm image build --from tree --size 1M -o image
	says "image/root.img: 1048576 bytes are too small for its contents, which need "
	needed=$(grep -oE '[0-9]+ bytes$' <<<"$stderr")
	has_only tree
	jobvm image build --from tree --size "${needed% bytes}" -o fits
	[ "$(stat -c %s fits/root.img)" = "${needed% bytes}" ]
	jobvm image build --from tree --size 64M -o image
	[ "$(stat -c %s image/root.img)" = 67108864 ]
	[ "$(jq .root.size_bytes image/image.json)" = 67108864 ]
	e2fsck -fn image/root.img
	jobvm image inspect image >/dev/null
	jobvm image build --from tree --size 65536KiB -o again
	diff -r image again
}

@test "output that cannot be written is an error" {
	jobvm pack -o job.img -- true
	run --separate-stderr -125 sh -c '"$0" inspect job.img >/dev/full' "$build/jobvm"
	says "stdout"
}
