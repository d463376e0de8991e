# Jobs that are suspended, and go on: here, elsewhere, after whatever was done to their files.
# SUSPEND_COUNT: how often a job is; SUSPEND_DAMAGES: how often a state is damaged; SUSPEND_STORM:
# how many signals of each kind a job meets.
load helper

# begin COMMAND...: jobvm in the background until something of its job's output is in the file
# `live`, as $jobvm_pid. What it says is in `said`.
begin() {
	: >live
	env --default-signal=INT "$build/jobvm" "$@" >live 2>said 3>&- &
	jobvm_pid=$!
	until [ -s live ]; do
		kill -0 "$jobvm_pid" 2>/dev/null || { cat said && return 1; }
		sleep 0.05
	done
}

# finish CODE [SIGNAL]: sends it, and waits for that exit code.
finish() {
	local code=0
	[ -z "${2:-}" ] || kill -"$2" "$jobvm_pid"
	wait "$jobvm_pid" || code=$?
	[ "$code" -eq "$1" ] || { echo "exit code $code" && cat said && return 1; }
}

# counting N [SECONDS]: a job that counts to N, one line at a time; exit code 7.
counting() {
	echo 'i=0; while [ $i -lt '"$1"' ]; do i=$((i + 1)); echo $i; echo $i >>kept; sleep '"${2:-0.2}"'; done; exit 7'
}

# no_qemu: from here on none must be started.
no_qemu() {
	fake_qemu 'touch "'"$PWD"'/started"' 'exit 1'
}

@test "a job that is suspended again and again, and moved, loses no line and repeats none" {
	mkdir here
	jobvm pack -o here/job.img -- sh -c "$(counting $((${SUSPEND_COUNT:-3} * 6)))"
	for i in $(seq "${SUSPEND_COUNT:-3}"); do
		begin start here/job.img
		finish 85 TERM
		grep -F "suspended; 'jobvm start here/job.img' goes on" said
		cat live >>all
		# Nothing is shared but the bytes of the two files.
		mkdir there
		cp here/job.img here/job.img.state there
		rm -r here
		mv there here
	done
	run --separate-stderr -7 jobvm start here/job.img
	[ "$(cat all - <<<"$output")" = "$(seq $((${SUSPEND_COUNT:-3} * 6)))" ]
	[ "$(ls here)" = "$(printf '%s\n' job.img job.img.host.json)" ]
	jobvm collect -o out here/job.img
	[ "$(cat out/output/kept)" = "$(seq $((${SUSPEND_COUNT:-3} * 6)))" ]
	[ "$(cat out/stdout)" = "$(seq $((${SUSPEND_COUNT:-3} * 6)))" ]
	[ "$(report .host.suspensions)" -eq "${SUSPEND_COUNT:-3}" ]
	[ "$(report .host.start.kind)" = resumed ]
	[ "$(report .host.inputs_sha256)" != null ]
}

@test "the same run goes on with its job" {
	begin run -o out -- sh -c "$(counting 12)"
	finish 85 TERM
	cp live all
	[ ! -e out ]
	[ "$(ls jobvm-*)" = "$(cd . && echo jobvm-*.img jobvm-*.img.state | tr ' ' '\n')" ]
	# Another job does not.
	run --separate-stderr -0 jobvm run -- echo other
	prints other
	run --separate-stderr -7 jobvm run -o out -- sh -c "$(counting 12)"
	[ "$(cat all - <<<"$output")" = "$(seq 12)" ]
	[ "$(cat out/output/kept)" = "$(seq 12)" ]
	[ -z "$(ls | grep jobvm- || true)" ]
	# It is over: the next one starts.
	run --separate-stderr -0 bash -c '"$0" run -- "$@" | head -n 1' "$build/jobvm" sh -c "$(counting 12)"
	prints 1
}

@test "run --restart starts a suspended job anew" {
	begin run -- sh -c "$(counting 5)"
	finish 85 TERM
	# What a process leaves that is killed while it saves.
	local pair
	pair=$(echo jobvm-*.img)
	cp "$pair" "$pair.0123456789abcdef"
	# Not while somebody has it.
	run --separate-stderr -125 flock "$pair.state" "$build/jobvm" run --restart -- sh -c "$(counting 5)"
	says "another jobvm goes on with this job"
	run --separate-stderr -7 jobvm run --restart -- sh -c "$(counting 5)"
	prints "$(seq 5)"
	[ -z "$(ls | grep jobvm- || true)" ]
}

@test "a VM that was booted is suspended too, and one whose state needs no template" {
	for option in '--start cold' '--suspend-whole'; do
		jobvm pack -o job.img -- sh -c "$(counting 6)"
		begin start $option job.img
		finish 85 TERM
		cp live all
		# A template that is needed would not be found here.
		run --separate-stderr -7 env XDG_CACHE_HOME="$PWD/none" "$build/jobvm" start job.img
		[ "$(cat all - <<<"$output")" = "$(seq 6)" ]
		rm job.img*
	done
}

@test "another terminal suspends a job, and sees that it is" {
	jobvm pack -o job.img -- sh -c "$(counting 8)"
	run --separate-stderr -125 jobvm suspend job.img
	says "job.img: no jobvm of this host runs this job disk"
	begin start job.img
	jobvm suspend job.img
	finish 85
	run --separate-stderr -0 jobvm inspect job.img
	[[ "$output" == *"status   suspended: the VM is in job.img.state"* ]]
	[ "$(jobvm inspect --json job.img | jq -r .status)" = suspended ]
	run --separate-stderr -7 jobvm start job.img
}

@test "SIGINT cancels a job that went on, and its state goes" {
	jobvm pack -o job.img -- sh -c "$(counting 50)"
	begin start job.img
	finish 85 TERM
	begin start job.img
	finish 130 INT
	[ ! -e job.img.state ]
	run --separate-stderr -125 jobvm start job.img
}

@test "before its job began nothing is kept, and the same command starts it" {
	jobvm pack -o job.img -- echo done
	# Its guest has not said a word by then.
	"$build/jobvm" start --start cold job.img 2>said 3>&- &
	jobvm_pid=$!
	until pgrep -P "$jobvm_pid" qemu >/dev/null; do :; done
	finish 85 TERM
	grep -F "ended before the job began" said
	[ ! -e job.img.state ]
	run --separate-stderr -0 jobvm start job.img
	prints done
}

@test "a job that is over is not suspended: its results come" {
	begin run -o out -- sh -c 'for i in $(seq 2000); do echo "$i" >"$i"; done; echo end'
	local code=0
	while kill -TERM "$jobvm_pid" 2>/dev/null; do :; done
	wait "$jobvm_pid" || code=$?
	[ "$code" -eq 0 ] || [ "$code" -eq 85 ]
	[ "$code" -eq 85 ] || [ "$(ls out/output | wc -l)" -eq 2000 ]
}

@test "a template that a suspended job needs is not removed to make room" {
	export XDG_CACHE_HOME=$PWD/cache
	mkdir cache
	jobvm pack -o job.img -- sh -c "$(counting 5)"
	begin start job.img
	finish 85 TERM
	touch -d 2000-01-01 cache/jobvm/templates/*/.
	# So many others that have been used since: one of them goes.
	for i in $(seq 16); do
		local other=cache/jobvm/templates/$(printf %064d "$i")
		mkdir "$other"
		touch -d "2001-01-$i" "$other"
	done
	jobvm run --request-memory 200M -- true
	[ ! -e "cache/jobvm/templates/$(printf %064d 1)" ]
	[ -e "cache/jobvm/templates/$(printf %064d 2)" ]
	run --separate-stderr -7 jobvm start job.img
	# It is over, and nobody needs the template.
	touch -d 2000-01-01 cache/jobvm/templates/*/.
	touch cache/jobvm/templates/0000000000*
	mkdir "cache/jobvm/templates/$(printf %064d 1)"
	local before
	before=$(ls cache/jobvm/templates | grep -vc ^0000000000)
	jobvm run --request-memory 210M -- true
	[ "$(ls cache/jobvm/templates | grep -vc ^0000000000)" -eq "$before" ]
}

# --- what went by meanwhile ---

@test "the clock is right again, random numbers differ, and limits do not count the pause" {
	jobvm pack --allowed-execute-duration 8 -o job.img -- sh -c 'echo up; sleep 2; while
		date +%s; do od -An -N8 -tx1 /dev/urandom; sleep 0.5; done'
	begin start job.img
	finish 85 TERM
	cp job.img again.img
	cp job.img.state again.img.state
	# The pause: longer than what is left to the job.
	sleep 9
	run --separate-stderr -124 jobvm start job.img
	local now first=$output
	now=$(date +%s)
	for second in $(grep -E '^[0-9]+$' <<<"$first" | tail -n 1); do
		[ $((now - second)) -lt 5 ]
	done
	run --separate-stderr -124 jobvm start again.img
	# No line of random numbers is in both.
	[ -z "$(grep -E '^ ' <<<"$first" | grep -xFf - <(grep -E '^ ' <<<"$output") || true)" ]
	jobvm collect -o out job.img
	[ "$(report '.guest.time_wall < 12')" = true ]
}

@test "checkpoints: a job whose host is lost goes on from the last one" {
	begin run --checkpoint-every 1 -- sh -c "$(counting 30)"
	until [ -n "$(ls jobvm-*.state 2>/dev/null)" ]; do
		kill -0 "$jobvm_pid"
		sleep 0.05
	done
	local seen=0
	until [ "$(wc -l <live)" -gt 8 ]; do sleep 0.05; done
	kill -KILL "$jobvm_pid"
	wait "$jobvm_pid" || true
	run --separate-stderr -7 jobvm run -- sh -c "$(counting 30)"
	seen=$(head -n 1 <<<"$output")
	[ "$seen" -gt 1 ]
	prints "$(seq "$seen" 30)"
	[ -z "$(ls | grep jobvm- || true)" ]
}

# --- what does not fit ---

# refused TEXT [OPTION]...: starting job.img is, with that error, and no QEMU is.
refused() {
	run --separate-stderr -125 jobvm start "${@:2}" job.img
	says "$1"
	[ ! -e started ]
}

suspended_job() {
	jobvm pack -o job.img -- sh -c "$(counting "${1:-8}")"
	begin start job.img
	finish 85 TERM
	cp live all
	mkdir whole
	cp job.img job.img.state whole
}

goes_on() {
	cp whole/* .
	unset JOBVM_QEMU
	run --separate-stderr -7 jobvm start job.img
	[ "$(cat all - <<<"$output")" = "$(seq "${1:-8}")" ]
}

@test "a damaged state is refused before there is a VM" {
	suspended_job
	no_qemu
	local size
	size=$(stat -c %s job.img.state)
	for i in $(seq "${SUSPEND_DAMAGES:-40}"); do
		cp whole/job.img.state .
		local at=$((RANDOM * 32768 + RANDOM))
		case $((i % 4)) in
		0) truncate -s $((at % size)) job.img.state ;;
		1) head -c $((1 + at % 5000)) /dev/urandom >>job.img.state ;;
		*)
			at=$((at % size))
			local byte
			byte=$(od -An -tu1 -j $at -N 1 whole/job.img.state)
			printf "\\x$(printf %x $((byte ^ (1 << (RANDOM % 8)))))" |
				dd of=job.img.state bs=1 seek=$at conv=notrunc status=none
			;;
		esac
		refused job.img.state
	done
	goes_on
}

@test "a state of another key, version, job or disk is refused, and says what does not fit" {
	suspended_job
	no_qemu
	printf '%064d\n' 0 >key
	chmod 600 key
	refused "made with another key" --state-key key
	chmod 644 key
	refused "nobody but you can read" --state-key key
	refused "openssl rand" --state-key missing
	sed -i '1s/jobvm-state 1/jobvm-state 9/' job.img.state
	refused "of another version"
	cp whole/job.img.state .
	# The disk went on without its state.
	printf x | dd of=job.img bs=1 seek=1000000 conv=notrunc status=none
	refused "is not the disk that"
	rm job.img
	refused "job.img"
	cp whole/job.img .
	rm job.img.state
	refused "job.img: has been started before"
	goes_on
}

@test "a state of another machine is refused, and says what differs" {
	suspended_job
	fake_qemu 'touch "'"$PWD"'/started"'
	refused "was suspended with another build of QEMU"
	unset JOBVM_QEMU
	cp -r "$image" image
	chmod -R u+w image
	printf 'x' >>image/kernel
	jq --arg sum "$(sha256sum image/kernel | cut -d' ' -f1)" \
		'(.. | objects | select(.kernel? and .kernel.sha256?)).kernel.sha256 = $sum' \
		image/image.json >new.json
	goes_on
}

@test "a suspension that finds no room leaves the job running" {
	needs_root "mounts a small file system"
	mkdir small
	mount -t tmpfs -o size=12m tmpfs small
	jobvm pack -o small/job.img -- sh -c "head -c 3000000 /dev/urandom >random; $(counting 10)"
	begin start small/job.img
	fallocate -l 12m small/fill 2>/dev/null || head -c 12000000 /dev/zero >small/fill || true
	kill -TERM "$jobvm_pid"
	until grep -q "the job is not suspended and goes on" said; do sleep 0.05; done
	rm small/fill
	finish 7
	[ "$(cat live)" = "$(seq 10)" ]
	[ "$(ls small)" = "$(printf '%s\n' job.img job.img.host.json)" ]
	umount small
}

@test "lazy inputs are found again by what they are, and no others are" {
	mkdir tree
	seq 100000 >tree/numbers
	local job='echo up; sleep 2; md5sum <tree/numbers'
	begin run --fetch block -i tree -o out -- sh -c "$job"
	finish 85 TERM
	run --separate-stderr -0 jobvm run --fetch block -i tree -o out -- sh -c "$job"
	[ "$(cat live - <<<"$output")" = "$(echo up && md5sum <tree/numbers)" ]
	rm -r out
	begin run --fetch block -i tree -o out -- sh -c "$job"
	finish 85 TERM
	touch tree/numbers
	run --separate-stderr -125 jobvm run --fetch block -i tree -o out -- sh -c "$job"
	says "it serves the tree"
	ls jobvm-*.state
}

@test "signals at random: in the end the result is right" {
	local n=$((${SUSPEND_STORM:-4} * 4)) kinds=(TERM KILL) sent=0 code=
	jobvm pack -o job.img -- sh -c "$(counting $n 0.3)"
	begin start job.img
	finish 85 TERM
	while [ "$sent" -lt $((2 * ${SUSPEND_STORM:-4})) ]; do
		"$build/jobvm" start job.img >live 2>said 3>&- &
		jobvm_pid=$!
		sleep "$((RANDOM % 3)).$((RANDOM % 10))"
		kill -"${kinds[sent % 2]}" "$jobvm_pid" && sent=$((sent + 1))
		code=0
		wait "$jobvm_pid" || code=$?
		# 143: it had not begun to listen to signals.
		case $code in 85 | 137 | 143) ;; 7) break ;; *) echo "$code" && cat said && return 1 ;; esac
	done
	[ "$code" = 7 ] || run --separate-stderr -7 jobvm start job.img
	jobvm collect -o out job.img
	[ "$(cat out/output/kept)" = "$(seq $n)" ]
	[ "$(cat out/stdout)" = "$(seq $n)" ]
	[ -z "$(pgrep -f "$PWD" || true)" ]
}
