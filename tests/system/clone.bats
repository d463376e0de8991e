# Jobs that start as copies of a VM that was booted once.
# CLONE_COUNT: how many at once have to be unlike each other.
load helper

# Whatever the other files' jobs are wished to be.
unset JOBVM_START

# own_cache: this test's templates are its own.
own_cache() {
	export XDG_CACHE_HOME=$PWD/cache
	mkdir cache
}

# own_image: the image under another name, for templates beside it.
own_image() {
	cp -r "$image" image
}

start() {
	report ".host.start.$1" "${2:-out/job.json}"
}

# booted_because TEXT [REPORT]: the job's VM was no clone, and the report says why.
booted_because() {
	[ "$(start kind "${2:-out/job.json}")" = cold ]
	[[ "$(start why "${2:-out/job.json}")" == *"$1"* ]]
}

# nothing_rejected: no template of this test's was called bad.
nothing_rejected() {
	[ "$(echo cache/jobvm/templates/*.rejected)" = 'cache/jobvm/templates/*.rejected' ]
}

# clone [OPTION]...: the smallest job; its start's kind on the first line, the template's directory
# on the second.
clone() {
	rm -rf out
	jobvm run -o out --image image "$@" -- true
	start kind
	start template
}

# flip FILE OFFSET BIT
flip() {
	local byte
	byte=$(od -An -tu1 -j "$2" -N 1 "$1")
	printf "\\$(printf %03o $((byte ^ (1 << $3))))" |
		dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# wrapped_qemu LINE...: the host's QEMU, but for clones, where a shell runs the lines before it. In
# them $memory is the number of the template's descriptor.
wrapped_qemu() {
	fake_qemu 'case "$*" in *-incoming*)' \
		'unset LD_PRELOAD' \
		'memory=${*#*mem-path=/proc/self/fd/}; memory=${memory%%,*}' \
		"$@" ';; esac' 'exec /usr/bin/qemu-system-x86_64 "$@"'
}

@test "the first job makes a template, the next one finds it, and both are clones" {
	own_cache
	run --separate-stderr -7 jobvm run -o first --start clone -- sh -c 'echo out; exit 7'
	prints out
	[ "$stderr" = "" ]
	run --separate-stderr -0 jobvm run -o second --start clone -i first/stdout -- cat stdout
	prints out
	[ "$(start "kind, .host.start.template_made" first/job.json)" = $'clone\ntrue' ]
	[ "$(start "kind, .host.start.template_made" second/job.json)" = $'clone\nfalse' ]
	[ "$(report '.host.vm_private_bytes > 1000000' second/job.json)" = true ]
	[ "$(report '.host.times | .vmm_ready_ms <= .restored_ms and .restored_ms <= .first_word_ms
		and .first_word_ms <= .job_started_ms' second/job.json)" = true ]
}

@test "a cold start leaves no template; the environment's wish counts where there is no other" {
	own_cache
	jobvm run -o out --start cold -- true
	[ "$(start kind)" = cold ]
	JOBVM_START=cold jobvm run -o out2 -- true
	[ "$(start kind out2/job.json)" = cold ]
	[ ! -e cache/jobvm/templates ]
	JOBVM_START=warm run --separate-stderr -125 jobvm run -- true
	says "JOBVM_START: 'warm' is none of auto, clone, cold"
	run --separate-stderr -2 jobvm run --start warm -- true
}

@test "many clones at once: nothing that is random or names the machine is the same, and the clocks are right" {
	local count=${CLONE_COUNT:-20}
	jobvm run --start clone -- true
	cat >facts <<-'END'
		./random 32
		cat /proc/sys/kernel/random/boot_id /proc/sys/kernel/random/uuid /etc/machine-id
		grep stack /proc/self/maps
		echo time $(date +%s)
	END
	timed_clone() {
		date +%s >"before$1"
		jobvm run -o "out$1" --start clone -i facts -i "$build/guest-programs/random" -- sh facts >/dev/null
		date +%s >"after$1"
	}
	for n in $(seq "$count"); do timed_clone "$n" & done
	wait
	for n in $(seq "$count"); do
		[ "$(start kind "out$n/job.json")" = clone ]
		[ "$(wc -l <"out$n/stdout")" -eq 6 ]
		time=$(sed -n 's/^time //p' "out$n/stdout")
		[ "$time" -ge "$(cat "before$n")" ]
		[ "$time" -le "$(cat "after$n")" ]
	done
	for line in 1 2 3 4 5; do
		[ "$(sed -s -n "${line}p" out*/stdout | sort -u | wc -l)" -eq "$count" ]
	done
	sed -s -n 1p out*/stdout | grep -cE '^[0-9a-f]{64}$' | grep -qx "$count"
	sed -s -n 4p out*/stdout | grep -cE '^[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}$' | grep -qx "$count"
}

@test "no job's data gets into a template or another clone" {
	local program=$build/guest-programs/pattern
	own_cache
	run --separate-stderr -0 jobvm run -o out --request-memory 128M --request-disk 200M --user root \
		-i "$program" -- ./pattern put 100000 /filled
	prints found
	[ "$(start kind)" = clone ]
	for later in {1..20}; do
		run --separate-stderr -0 jobvm run -o "out-$later" --request-memory 128M --user root \
			-i "$program" -- ./pattern find 120000
		prints "not found"
		[ "$(start "kind, .host.start.template" "out-$later/job.json")" = "$(start "kind, .host.start.template")" ]
	done
	grep -rqF "Linux version" cache/jobvm/templates
	! grep -rlF "$(printf 'ukpw%.0s' {1..8})" cache/jobvm/templates
}

@test "jobvm image template puts it beside the image, where others find it" {
	own_cache
	own_image
	run --separate-stderr -0 jobvm image template image
	[[ "$output" == image.templates/* ]]
	[ -f "$output/memory" ]
	[ "$(stat -c %a "$output"/*)" = $'444\n444\n444' ]
	template=$output
	[ "$(clone)" = $'clone\n'"$template" ]
	[ ! -e cache/jobvm/templates ]
	run --separate-stderr -0 jobvm image template image
	prints "$template"
	says "there already"
	# Another shape is another template.
	run --separate-stderr -0 jobvm image template image --request-memory 256M --request-cpus 2
	[ "$output" != "$template" ]
}

@test "a template with a flipped bit or cut short is never used" {
	own_cache
	own_image
	whole=$(clone --start clone | tail -n 1)
	beside=$(jobvm image template image)
	[ "$(clone)" = $'clone\n'"$beside" ]
	chmod u+w "$beside"/*
	for n in {0..19}; do
		file=$beside/$(sed -n "$((n % 3 + 1))p" <<<$'memory\nstate\ntemplate.json')
		size=$(stat -c %s "$file")
		flip "$file" $((size * n / 20)) $((n % 8))
		[ "$(clone)" = $'clone\n'"$whole" ]
		flip "$file" $((size * n / 20)) $((n % 8))
	done
	for n in {0..19}; do
		file=$beside/$(sed -n "$((n % 3 + 1))p" <<<$'memory\nstate\ntemplate.json')
		cp --sparse=always -p "$file" kept
		truncate -s $(($(stat -c %s "$file") * n / 20)) "$file"
		[ "$(clone)" = $'clone\n'"$whole" ]
		cp --sparse=always kept "$file"
	done
	# As it was before, it is used again.
	[ "$(clone)" = $'clone\n'"$beside" ]
}

@test "a damaged template is made anew" {
	own_cache
	own_image
	template=$(clone --start clone | tail -n 1)
	chmod u+w "$template"/state
	flip "$template/state" 1000 0
	[ "$(clone)" = $'clone\n'"$template" ]
	[ "$(start template_made)" = true ]
	[ "$(clone)" = $'clone\n'"$template" ]
	[ "$(start template_made)" = false ]
}

@test "a template of another shape, kernel or QEMU is not taken, whatever its name" {
	own_cache
	own_image
	small=$(jobvm image template image --request-memory 256M)
	right=$(clone --start clone | tail -n 1)
	# Where the right one is looked for first lies another's.
	mv "$small" "image.templates/${right##*/}"
	[ "$(clone)" = $'clone\n'"$right" ]
	[ "$(clone --request-memory 300M | head -n 1)" = clone ]
	[ "$(start template_made)" = true ]
	fake_qemu 'exec /usr/bin/qemu-system-x86_64 "$@"'
	[ "$(clone | head -n 1)" = clone ]
	[ "$(start template_made)" = true ]
}

@test "a template that others can write is not believed" {
	own_cache
	own_image
	beside=$(jobvm image template image)
	chmod go+w "$beside/state"
	[[ "$(clone)" == $'clone\n'"$PWD/cache/"* ]]
}

@test "two at once make one template" {
	own_cache
	own_image
	for n in 1 2; do jobvm run -o "out$n" --image image --start clone -- echo "$n" & done
	wait
	[ "$(cat out1/stdout out2/stdout)" = $'1\n2' ]
	[ "$(start kind out1/job.json) $(start kind out2/job.json)" = "clone clone" ]
	[ "$(cat out?/job.json | jq -s 'map(select(.host.start.template_made)) | length')" -eq 1 ]
}

@test "what a killed process was making is not used, and goes" {
	own_cache
	own_image
	own_qemu
	"$build/jobvm" run --image image --start clone -- true &
	jobvm_pid=$!
	until [ -n "$(find cache -name '*.new')" ] && own_qemu_pid; do :; done
	kill -KILL "$jobvm_pid"
	wait "$jobvm_pid" || true
	[ "$(find cache/jobvm/templates -name '*.new' | wc -l)" -eq 1 ]
	[ "$(clone | head -n 1)" = clone ]
	[ "$(start template_made)" = true ]
	[ "$(find cache/jobvm/templates -mindepth 1 -maxdepth 1 -type d | wc -l)" -eq 1 ]
	[ -z "$(find cache -name '*.new')" ]
}

@test "a cache directory that cannot be written, or is full, is done without" {
	needs_small_disk
	own_image
	mkdir cache
	# cached MOUNT_OPTIONS: a job whose cache is a file system mounted so.
	cached() {
		rm -rf out
		XDG_CACHE_HOME=$PWD/cache $hang_guard "${own_mounts[@]}" sh -c '
			mount -t tmpfs -o "$0" tmpfs cache && exec "$@"' "$1" \
			"$build/jobvm" run -o out --image image --start clone -- echo ran
	}
	run --separate-stderr -0 cached ro
	prints ran
	says "the VM is not a clone"
	[ "$(start kind)" = cold ]
	[ "$(report '.host.start.why != null')" = true ]
	run --separate-stderr -0 cached size=8m
	prints ran
	booted_because "too little room"
}

@test "a clone's QEMU that was taken over cannot write its template" {
	own_cache
	own_image
	wrapped_qemu 'echo x >"/proc/self/fd/$memory"' 'echo x >&"$memory"' \
		'chmod 666 "/proc/self/fd/$memory" && echo x >"/proc/self/fd/$memory"' 'exit 9'
	run --separate-stderr -0 jobvm run -o out --image image --start clone -- echo ran
	prints ran
	says "the clone did not come up"
	[ "$(start "kind, .host.start.template_made")" = $'cold\ntrue' ]
	template=$(echo cache/jobvm/templates/*/template.json)
	[ "$(jq -r .memory.size_bytes "$template")" -eq "$(stat -c %s "${template%/*}/memory")" ]
	# It was made whole; that a clone died is no reason to try again at once.
	cp -r --sparse=always "${template%/*}" kept
	run --separate-stderr -0 jobvm run -o out2 --image image -- echo ran
	booted_because "did not work lately" out2/job.json
	diff -r kept "${template%/*}"
	rm cache/jobvm/templates/*.rejected
	run --separate-stderr -0 jobvm run -o out3 --image image -- echo ran
	[ "$(start template_made out3/job.json)" = false ]
}

@test "a clone that hangs is given up, and the job is booted" {
	own_cache
	wrapped_qemu 'exec sleep 100000'
	run --separate-stderr -0 jobvm run -o out --start clone -- echo ran
	prints ran
	booted_because "the clone said nothing"
	! own_qemu_pid
}

@test "a guest that is no template is not waited for" {
	own_cache
	hostile_vm 'while :; do say alive; sleep 0.2; done'
	run --separate-stderr -124 jobvm run -o out --boot-timeout 2 --allowed-job-duration 2 --job-max-vacate-time 0 -- true
	booted_because "the guest did not come to wait for its job disk"
	hostile_vm 'say started' 'exec sleep 100000'
	run --separate-stderr -124 jobvm run -o out2 --allowed-job-duration 2 --job-max-vacate-time 0 -- true
	booted_because "the guest does not wait for its job disk" out2/job.json
}

@test "a QEMU that somebody kills is no fault of its template" {
	own_cache
	wrapped_qemu 'kill -9 $$'
	run --separate-stderr -0 jobvm run -o out --start clone -- echo ran
	prints ran
	booted_because "the clone did not come up: QEMU was killed by signal 9 (Killed)"
	nothing_rejected
	# The same while the template is made.
	fake_qemu '[ -n "$JOBVM_READONLY_FD" ] || kill -9 $$' 'exec qemu-system-x86_64 "$@"'
	run --separate-stderr -0 jobvm run -o out2 --start clone -- echo ran
	[ "$(start kind out2/job.json)" = cold ]
	nothing_rejected
}
