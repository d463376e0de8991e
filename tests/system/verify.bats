# Digests and signatures: what was run, what came of it, and who says so.
load helper

# One job's results for all tests here; each takes a copy.
setup_file() {
	cd "$BATS_FILE_TMPDIR"
	new_key key
	new_key other
	mkdir -p in/dir
	echo one >in/one
	jobvm run -i in/ --sign-key key.pem -o made -- sh -c '
		echo out; echo err >&2
		mkdir -p made/empty "$(printf "caf\351")"
		echo 1 >made/file; ln -s file made/link; ln -s "$(printf "b\377d")" made/strange
		echo 2 >"$(printf "caf\351")/f\`ile"; truncate -s 6G holes; echo x >>one'
}

new_key() {
	openssl genpkey -algorithm ed25519 -out "$1.pem"
	openssl pkey -in "$1.pem" -pubout -out "$1.pub"
}

take_results() {
	cp -a --sparse=always "$BATS_FILE_TMPDIR"/{made,key.pem,key.pub,other.pem,other.pub} .
}

# edit FILTER: changes job.json.
edit() {
	jq "$1" made/job.json >edited
	mv edited made/job.json
}

# finds LINE: verify says that this differs, and nothing else.
finds() {
	run --separate-stderr -1 jobvm verify made
	if [ "${lines[0]}" != "$1" ] || [[ "$output" != *$'\nnot whole: 1 difference' ]]; then
		echo "does not find only '$1': $output"
		return 1
	fi
}

# digest_inputs DIR: as jobvm-result(5) defines it.
digest_inputs() {
	(
		cd "$1"
		export LC_ALL=C
		find . -mindepth 1 -printf '%P\0' | tr / '\1' | sort -z | tr '\1' / |
			while IFS= read -r -d '' path; do
				size=0
				[ ! -L "$path" ] && [ -d "$path" ] || size=$(stat -c %s "$path")
				printf '%s\0%06o\0%s\0' "$path" "0x$(stat -c %f "$path")" "$size"
				if [ -L "$path" ]; then
					readlink -n "$path"
				elif [ -f "$path" ]; then
					cat "$path"
				fi
			done
	) | sha256sum | cut -d' ' -f1
}

digest_of() {
	sha256sum "$1" | cut -d' ' -f1
}

@test "results as they were collected are whole, and signed" {
	take_results
	openssl pkeyutl -verify -pubin -inkey key.pub -rawin -in made/job.json \
		-sigfile made/job.json.sig
	[ "$(stat -c %s made/job.json.sig)" -eq 64 ]
	run --separate-stderr -0 jobvm verify --key key.pub made
	[ "${lines[0]}" = "job.json: signed by the owner of the key" ]
	# holes, made/file, f`ile, one, stdout, stderr
	[[ "${lines[1]}" == "whole: 6 files of "*" bytes, 1 of them without a digest; directories: 3; symlinks: 2" ]]
	run --separate-stderr -0 jobvm verify --json --key key.pub made
	[ "$(jq -c '[.whole, .authentic, .partial, .files, .without_digest, .differences]' <<<"$output")" = \
		'[true,true,false,6,1,[]]' ]
}

@test "without a key, verify says that nothing authenticates the report" {
	take_results
	run --separate-stderr -0 jobvm verify made
	[[ "${lines[0]}" == "job.json: nothing authenticates it"* ]]
	[ "$(jobvm verify --json made | jq .authentic)" = false ]
}

@test "each kind of change is found, and only it" {
	take_results
	cp -a made whole
	restore() {
		rm -r made
		cp -a --sparse=always whole made
	}
	echo 3 >made/output/made/file
	finds "output/made/file: has another SHA-256"
	echo more >>made/stdout
	restore
	echo more >>made/stdout
	finds "stdout: has 9 bytes, not 4"
	restore
	truncate -s 5G made/output/holes
	finds "output/holes: has 5368709120 bytes, not 6442450944"
	restore
	rm made/output/one
	finds "output/one: is missing"
	restore
	echo new >made/output/added
	finds "output/added: is not in the report"
	restore
	mkdir -p made/output/made/empty/more/and
	finds "output/made/empty/more: is not in the report"
	restore
	ln -sfn other made/output/made/link
	finds "output/made/link: points to 'other', not to 'file'"
	restore
	rmdir made/output/made/empty
	finds "output/made/empty: is missing"
	restore
	cp made/output/made/file file
	ln -sf "$PWD/file" made/output/made/file
	finds "output/made/file: is a symlink, not a file"
	restore
	rm made/stderr
	mkfifo made/stderr
	finds "stderr: is a fifo, not a file"
	restore
	mv made/output elsewhere
	ln -s "$PWD/elsewhere" made/output
	run --separate-stderr -1 jobvm verify made
	[[ "$output" == *"output/made/file: is reached through a symbolic link"* ]]
}

@test "modes and times are not compared" {
	take_results
	chmod 700 made/output/made/file made/output/made
	touch -d yesterday made/output/one
	jobvm verify --key key.pub made
}

@test "a name that is not UTF-8 is checked by its bytes, and shown escaped" {
	take_results
	echo 3 >made/output/$'caf\xe9'/'f`ile'
	finds 'output/caf\xe9/f`ile: has another SHA-256'
	run --separate-stderr -1 jobvm verify --json made
	[ "$(jq -r '.differences[0].path_hex' <<<"$output")" = \
		"$(printf 'output/caf\351/f`ile' | od -An -tx1 | tr -d ' \n')" ]
	rm -r made/output/$'caf\xe9'
	mkdir made/output/$'caf\xef\xbf\xbd'
	echo 2 >made/output/$'caf\xef\xbf\xbd'/'f`ile'
	run --separate-stderr -1 jobvm verify made
	[[ "$output" == *'output/caf\xe9: is missing'* ]]
	[[ "$output" == *$'output/caf\xef\xbf\xbd: is not in the report'* ]]
}

@test "the target of a link is compared by its bytes" {
	take_results
	ln -sfn $'b\xef\xbf\xbdd' made/output/made/strange
	finds $'output/made/strange: points to \'b\xef\xbf\xbdd\', not to \'b\\xffd\''
}

@test "a report that was changed fails by its signature, even where nothing else does" {
	take_results
	edit '.exit_code = 7'
	jobvm verify made
	run --separate-stderr -1 jobvm verify --key key.pub made
	[ "${lines[0]}" = "job.json: is not what the key's owner signed" ]
	[[ "$output" != *"signed by the owner"* ]]
	[ "$(jobvm verify --json --key key.pub made | jq -c '[.whole, .authentic]')" = '[false,false]' ]
}

@test "the wrong key, no signature and a damaged one fail" {
	take_results
	run --separate-stderr -1 jobvm verify --key other.pub made
	[ "${lines[0]}" = "job.json: is not what the key's owner signed" ]
	cp made/job.json.sig good
	truncate -s 63 made/job.json.sig
	run --separate-stderr -1 jobvm verify --key key.pub made
	truncate -s 1M made/job.json.sig
	run --separate-stderr -1 jobvm verify --key key.pub made
	rm made/job.json.sig
	run --separate-stderr -1 jobvm verify --key key.pub made
	[[ "${lines[0]}" == "job.json: has no signature: "* ]]
	[ "${lines[1]}" = "job.json: not authentic; nothing else was checked" ]
	ln -s ../good made/job.json.sig
	run --separate-stderr -1 jobvm verify --key key.pub made
	rm made/job.json.sig
	cp good made/job.json.sig
	jobvm verify --key key.pub made
}

@test "a crafted report leads nowhere" {
	take_results
	echo secret >secret
	for path in ../secret "$PWD/secret" output/../../secret output/../stdout . "" /; do
		cp "$BATS_FILE_TMPDIR/made/job.json" made/job.json
		edit ".outputs.collected += [{path: \"$path\", type: \"file\", size_bytes: 7,
			sha256: \"$(digest_of secret)\"}]"
		run --separate-stderr -1 jobvm verify made
		[ "${lines[0]}" = "$path: is not in made" ] || { echo "$path: $output"; return 1; }
	done
	cp "$BATS_FILE_TMPDIR/made/job.json" made/job.json
	edit '.outputs.collected += [.outputs.collected[0]]'
	finds "stdout: is listed twice"
	# A device is not even opened, whatever is said of it.
	cp "$BATS_FILE_TMPDIR/made/job.json" made/job.json
	edit '.outputs.collected[0].path = "\u001b[2Jx\nwhole: all"'
	run --separate-stderr -1 jobvm verify made
	[ "${lines[0]}" = '\x1b[2Jx\x0awhole: all: is missing' ]
}

@test "what is no report is refused" {
	mkdir made
	run --separate-stderr -125 jobvm verify made
	says "made/job.json"
	run --separate-stderr -125 jobvm verify no-such-directory
	says "no-such-directory"
	for text in "" "no json" "[]" "3" '"text"' "{}" '{"format_version": 2}' \
		'{"format_version": 1}' '{"format_version": 1, "outputs": 3}' \
		'{"format_version": 1, "outputs": {"collected": {}}}' \
		'{"format_version": 1, "outputs": {"collected": [3]}}' \
		'{"format_version": 1, "outputs": {"collected": [{"path": 3}]}}' \
		'{"format_version": 1, "outputs": {"collected": [{"path": "a", "path_hex": "6"}]}}' \
		'{"format_version": 1, "outputs": {"collected": [{"path": "a", "path_hex": "610062"}]}}' \
		'{"format_version": 1, "outputs": {"collected": [{"path": "job.json"}]}}' \
		'{"format_version": 1, "outputs": {"collected": [{"path": "job.json", "type": "fifo"}]}}' \
		'{"format_version": 1, "outputs": {"collected": [{"path": "job.json", "type": "file"}]}}' \
		'{"format_version": 1, "format_version": 1, "outputs": null}'; do
		printf '%s' "$text" >made/job.json
		run --separate-stderr -125 jobvm verify made
		says "made/job.json"
	done
	printf '[%.0s' {1..100000} >made/job.json
	run --separate-stderr -125 jobvm verify made
	says "made/job.json:"
	truncate -s 2G made/job.json
	run --separate-stderr -125 jobvm verify made
	says "larger than"
	# Small values take much more memory than text. With a lower limit than our own it is the same.
	{ printf '[0' && yes ',0' | tr -d '\n' | head -c 20000000 && printf ']'; } >made/job.json
	run --separate-stderr -125 prlimit --as=250000000 "$build/jobvm" verify made
	says "made/job.json:"
	run --separate-stderr -125 jobvm verify made
	says "no format_version"
	rm made/job.json
	mkfifo made/job.json
	run --separate-stderr -125 jobvm verify made
	says "not a regular file"
}

@test "a run that left nothing is whole, and a partial one says so" {
	mkdir made
	echo '{"format_version": 1, "outputs": null}' >made/job.json
	jobvm verify made
	echo '{"format_version": 1, "outputs": {"collected": [], "partial": true}}' >made/job.json
	run --separate-stderr -0 jobvm verify made
	[[ "$output" == *"partial: "* ]]
	[ "$(jobvm verify --json made | jq .partial)" = true ]
}

@test "a submission: its report by name, among other files, stdout elsewhere" {
	new_key key
	mkdir work
	cat >job.sub <<-END
		executable = /bin/sh
		transfer_executable = false
		arguments = "-c 'echo hello; echo 1 >result'"
		initialdir = work
		output = ./out.txt
		error = $PWD/elsewhere
		jobvm_report = first.json
		queue
	END
	echo other >work/other
	jobvm run --sign-key key.pem job.sub
	run --separate-stderr -1 jobvm verify --report first.json --key key.pub --listed-only work
	[ "${lines[0]}" = "$PWD/elsewhere: is not in work" ]
	[[ "$output" == *"not whole: 1 difference" ]]
	sed -i 's/^error.*//' job.sub
	jobvm run --sign-key key.pem job.sub
	jobvm verify --report first.json --key key.pub --listed-only work
	run --separate-stderr -1 jobvm verify --report first.json work
	[ "${lines[0]}" = "other: is not in the report" ]
	# An old signature does not stay beside a new report.
	jobvm run job.sub
	[ ! -e work/first.json.sig ]
}

@test "a key that cannot sign stops a job before it runs" {
	new_key key
	openssl genpkey -algorithm rsa -pkeyopt rsa_keygen_bits:2048 -out rsa.pem
	openssl pkey -in key.pem -aes256 -passout pass:secret -out encrypted.pem
	echo text >text.pem
	for key in none.pem rsa.pem encrypted.pem text.pem key.pub .; do
		run --separate-stderr -125 jobvm run --sign-key "$key" -o out -- echo ran </dev/null
		says "$key"
		prints ""
		[ ! -e out ]
	done
	run --separate-stderr -125 jobvm run --sign-key encrypted.pem -o out -- echo ran </dev/null
	says "encrypted"
	run --separate-stderr -125 jobvm run --sign-key rsa.pem -o out -- echo ran
	says "not an Ed25519 key"
	run --separate-stderr -2 jobvm run --sign-key key.pem -- echo ran
	says "--sign-key"
	jobvm pack -o job.img -- true
	run --separate-stderr -125 jobvm collect --sign-key rsa.pem -o out job.img
	says "rsa.pem"
	for key in none.pub rsa.pem key.pem; do
		run --separate-stderr -125 jobvm verify --key "$key" .
		says "$key"
	done
}

@test "image, inputs and stdin have their digests, and start's go into what collect signs" {
	new_key key
	mkdir -p in/dir/deep in/dir.d
	printf 'one\n' >in/one
	chmod 751 in/dir
	chmod 600 in/one
	head -c 700000 /dev/urandom >in/dir/large
	printf x >in/dir/deep/$'caf\xe9'
	touch in/empty
	ln in/one in/dir/hard
	ln -s one in/link
	truncate -s 3M in/holes
	echo "to read" >stdin
	jobvm pack -i in/ --stdin stdin -o job.img -- sh -c 'rm -r one; cat'
	# What is packed is what counts.
	expected=$(digest_inputs in)
	rm -r in/dir
	run --separate-stderr -0 jobvm start job.img
	[ "$(report .inputs_sha256 job.img.host.json)" = "$expected" ]
	[ "$(report .stdin_sha256 job.img.host.json)" = "$(digest_of stdin)" ]
	jobvm collect --sign-key key.pem -o out job.img
	[ "$(report .host.inputs_sha256)" = "$expected" ]
	[ "$(report .host.image_sha256)" = "$(digest_of "$image/image.json")" ]
	jobvm verify --key key.pub out
}

@test "a privileged job's inputs are digested before it could change them" {
	mkdir in
	head -c 40000000 /dev/urandom >in/large
	expected=$(digest_inputs in)
	run --separate-stderr -0 jobvm run --user root --privileged -i in/ -o out -- sh -c '
		mkdir m && mount -t ext4 /dev/vdb m && echo changed >m/input/large && sync'
	[ "$(report .host.inputs_sha256)" = "$expected" ]
	[ "$(report '.host | has("stdin_sha256")')" = false ]
}

# reader_at_start OPTION...: whether the inputs are still read when QEMU has been started.
reader_at_start() {
	env --default-signal=INT "$build/jobvm" run -i in/ -o out "$@" -- sleep 100000 &
	jobvm_pid=$!
	until own_qemu_pid; do kill -0 "$jobvm_pid"; done
	reader=no
	! pgrep -P "$jobvm_pid" -f "jobvm run" || reader=yes
	kill -INT "$jobvm_pid"
	code=0
	wait "$jobvm_pid" || code=$?
	[ "$code" -eq 130 ]
}

@test "inputs are read while the VM boots, but before the VM of a privileged job is started" {
	own_qemu
	mkdir in
	truncate -s 4G in/zeros
	reader_at_start --request-disk 5G
	[ "$reader" = yes ]
	# A digest that was not waited for.
	[ "$(report .host.inputs_sha256)" = null ]
	rm -r out
	reader_at_start --request-disk 5G --user root --privileged
	[ "$reader" = no ]
	# A digest that nothing can change any more.
	[ "$(report '.host.inputs_sha256 | length')" -eq 64 ]
}

@test "inputs much larger than their disk have no digest" {
	mkdir in
	truncate -s 100G in/zeros
	run --separate-stderr -0 jobvm run -i in/ -o out -- true
	[ "$stderr" = "" ]
	[ "$(report .host.inputs_sha256)" = null ]
}
