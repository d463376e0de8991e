# jobvm node: jobs that are renamed into a spool, and results that are renamed out.
load helper

teardown() {
	[ -z "${node_pid:-}" ] || kill -KILL "$node_pid" 2>/dev/null || true
	rm -rf ${qemu_directory:+"$qemu_directory"} ${public_directory:+"$public_directory"}
}

# start_node OPTION...: in the background.
start_node() {
	"$build/jobvm" node --spool spool --request-memory 64M "$@" 2>>node.log &
	node_pid=$!
}

# end_node [SIGNAL]: its exit code in $code.
end_node() {
	kill "-${1:-TERM}" "$node_pid"
	code=0
	wait "$node_pid" || code=$?
	node_pid=
}

# put NAME [OPTION]... -- COMMAND: a job disk, renamed in.
put() {
	local name=$1
	shift
	mkdir -p spool/new
	jobvm pack --quiet --request-memory 64M -o "spool/new/.$name" "$@"
	mv "spool/new/.$name" "spool/new/$name.img"
}

# done_with NAME...: waits for their results.
done_with() {
	local name tries=0
	for name; do
		until [ -e "spool/done/$name" ]; do
			sleep 0.1
			[ $((tries += 1)) -lt 3000 ] || { cat node.log && return 1; }
		done
	done
}

result() {
	jq -r "$1" "spool/done/$2/job.json"
}

@test "job disks and submit descriptions run, and leave what 'run -o' would" {
	put disk -i /dev/null -- sh -c 'echo out; echo err >&2; echo made >file; exit 3'
	printf '%s\n' 'executable = script' 'transfer_output_files = file' 'arguments = a b' queue \
		>spool/new/.d
	printf '%s\n' '#!/bin/sh' 'echo "$2 $1"; echo made >file' >spool/script
	mv spool/new/.d spool/new/description.sub
	start_node --slots 2
	done_with disk description
	[ "$(cat spool/done/disk/stdout spool/done/disk/stderr)" = "$(printf 'out\nerr')" ]
	[ "$(cat spool/done/disk/output/file)" = made ]
	[ "$(result '.status, .guest.exit_code' disk)" = "$(printf 'completed\n3')" ]
	[ "$(cat spool/done/description/stdout)" = "b a" ]
	[ "$(cat spool/done/description/output/file)" = made ]
	[ -z "$(ls spool/new spool/run | grep -v :)" ]
	run --separate-stderr -0 jobvm node status --json --spool spool
	[ "$(jq -r '.state, .done' <<<"$output")" = "$(printf 'running\n2')" ]
	end_node
	[ "$code" -eq 0 ]
	run --separate-stderr -0 jobvm node status --spool spool
	[ "${lines[0]}" = "node: none" ]
	[ "${lines[2]}" = "since its start: 2 done, 0 refused, 0 failed, 0 suspended" ]
}

@test "the order is that of priority and arrival" {
	local name
	for name in d c 5@b a -1@e 5@z; do put "$name" -- true; done
	start_node
	done_with a b c d e z
	end_node
	[ "$(cd spool/done && ls -tr | tr -d '\n')" = bzdcae ]
}

@test "what is no job is refused by name, and the node goes on" {
	mkdir -p spool/new
	echo nonsense >spool/new/bad.img
	printf '%s\n' 'executable = /missing' 'quue' >spool/new/worse.sub
	ln -s /etc/passwd spool/new/link.img
	mkdir spool/new/directory.img
	mkfifo spool/new/fifo.img
	echo written >spool/new/.part.img
	echo other >spool/new/readme
	put fine -- true
	jobvm pack --quiet -o used.img -- true
	jobvm start --quiet used.img
	mv used.img spool/new/used.img
	start_node
	done_with bad worse link directory fifo fine used
	end_node
	grep -q 'bad' spool/done/bad/error
	[ "$(cat spool/done/bad/job.img)" = nonsense ]
	grep -q 'worse.sub:2' spool/done/worse/error
	[ -e spool/done/worse/job.sub ]
	grep -q 'has been started before' spool/done/used/error
	[ -s spool/done/link/error ]
	[ -s spool/done/directory/error ]
	[ -s spool/done/fifo/error ]
	[ "$(result .status fine)" = completed ]
	[ "$(ls -A spool/new)" = "$(printf '.part.img\nreadme')" ]
}

@test "a name whose results are still there waits for them to be taken" {
	put job -- echo first
	start_node
	done_with job
	put job -- echo second
	until [ "$(jobvm node status --json --spool spool | jq .held)" = 1 ]; do sleep 0.1; done
	[ "$(cat spool/done/job/stdout)" = first ]
	mv spool/done/job taken
	done_with job
	[ "$(cat spool/done/job/stdout)" = second ]
	end_node
}

@test "a spool has one node" {
	mkdir spool
	start_node
	until [ -e spool/status.json ]; do sleep 0.1; done
	run --separate-stderr -125 jobvm node --spool spool
	says "has a node already"
	end_node
	run --separate-stderr -2 jobvm node
	says "--spool"
	run --separate-stderr -2 jobvm node --spool spool --slots 0
	says "--slots"
	run --separate-stderr -2 jobvm node --spool spool --warm 1 --start cold
	says "--start cold"
	run --separate-stderr -125 jobvm node --spool /proc/missing
	says "/proc/missing"
}

# NODE_JOBS (40) jobs, and NODE_KILL_EVERY (10) of them the node is killed.
@test "a node that is killed loses no job, and gives none two results" {
	local jobs=${NODE_JOBS:-40} every=${NODE_KILL_EVERY:-10} i killed=0
	own_qemu
	put template -- sh -c 'cat number; cat number >result'
	for ((i = 0; i < jobs; i++)); do
		echo "$i" >number
		jobvm pack --quiet --request-memory 64M -o "spool/new/.$i" -i number -- \
			sh -c 'cat number; cat number >result'
		mv "spool/new/.$i" "spool/new/$i.img"
	done
	start_node --slots 2 ${NODE_MODE:-}
	until [ "$(ls spool/done | wc -l)" -gt "$jobs" ]; do
		if [ "$(ls spool/done | wc -l)" -ge $(((killed + 1) * every)) ]; then
			killed=$((killed + 1))
			kill -KILL "$node_pid"
			wait "$node_pid" || true
			start_node --slots 2 ${NODE_MODE:-}
		fi
		sleep 0.02
	done
	end_node
	[ "$killed" -ge $((jobs / every - 1)) ]
	for ((i = 0; i < jobs; i++)); do
		[ "$(cat "spool/done/$i/stdout" "spool/done/$i/output/result")" = "$(printf "$i\n$i")" ]
		[ "$(result .status "$i")" = completed ]
	done
	[ -z "$(ls spool/new spool/run | grep -v :)" ]
	! own_qemu_pid
	! grep -v suspending node.log
}

# suspend_and_go_on OPTION...
suspend_and_go_on() {
	put count -- sh -c 'echo begun; until [ $((i += 1)) -gt 40 ]; do echo $i; sleep 0.1; done'
	put next -- echo next
	start_node "$@"
	until [ "$(jobvm node status --json --spool spool 2>/dev/null | jq -r '.running[0].job')" = count ]; do
		sleep 0.1
	done
	sleep 1.5 # of the job's own time, which nothing outside tells of
	end_node
	[ "$code" -eq 0 ]
	[ ! -e spool/done/count ]
	ls spool/run/count.work.state
	# The spool is what a node knows, wherever it is.
	mv spool elsewhere
	mkdir spool
	mv elsewhere/* spool
	start_node "$@"
	done_with count next
	end_node
	[ "$(cat spool/done/count/stdout)" = "$(echo begun && seq 40)" ]
	[ "$(result .host.suspensions count)" = 1 ]
	[ -z "$(ls spool/run)" ]
}

@test "SIGTERM suspends what runs, and the next node goes on with it" {
	suspend_and_go_on
}

@test "so it does with --reuse" {
	suspend_and_go_on --reuse
}

@test "a job that somebody else suspends goes on at once" {
	local name=$'caf\xe9'
	put "$name" -- sh -c 'echo begun; until [ $((i += 1)) -gt 20 ]; do echo $i; sleep 0.1; done'
	start_node
	until pid=$(jobvm node status --json --spool spool 2>/dev/null | jq -r '.running[0].pid // empty') && [ -n "$pid" ]; do
		sleep 0.1
	done
	[ "$(jobvm node status --json --spool spool | jq -r '.running[0].job_hex')" = 636166e9 ]
	sleep 1.2 # of the job's own time, which nothing outside tells of
	kill -TERM "$pid"
	done_with "$name"
	end_node
	[ "$(cat "spool/done/$name/stdout")" = "$(echo begun && seq 20)" ]
	[ "$(result .host.suspensions "$name")" = 1 ]
}

# look: what a job can see that another could have left.
look='ls -A /tmp /var/tmp /dev/shm /dev/mqueue /run /root . 2>&1; ps | sed 1d | grep -cv "ps\|sed\|grep\|sh"; cat /proc/sysvipc/*; cat /proc/mounts; hostname; cat /proc/sys/kernel/random/uuid >/dev/null; cat /sys/fs/cgroup/cgroup.events; ls /etc /home; cat /etc/passwd'

@test "a VM that waits is for a job of its shape, and any other job runs all the same" {
	mkdir spool
	start_node --warm 1
	until [ "$(jobvm node status --json --spool spool 2>/dev/null | jq .ready)" = 1 ]; do sleep 0.1; done
	put fits -- sh -c 'cat /proc/sys/kernel/random/boot_id; date +%s'
	done_with fits
	until [ "$(jobvm node status --json --spool spool | jq .ready)" = 1 ]; do sleep 0.1; done
	put fits-too -- cat /proc/sys/kernel/random/boot_id
	jobvm pack --quiet --request-memory 96M -o spool/new/.other -- echo other
	mv spool/new/.other spool/new/other.img
	done_with fits-too other
	[ "$(result .host.start.ready_before fits)" = true ]
	[ "$(result .host.start.rehearsed fits)" = true ]
	[ "$(result .host.start.jobs_before fits)" = 0 ]
	[ "$(result .host.start.ready_before other)" = null ]
	[ "$(cat spool/done/other/stdout)" = other ]
	[ "$(head -n 1 spool/done/fits/stdout)" != "$(cat spool/done/fits-too/stdout)" ]
	# The clock is that of the job's start, not of the VM's.
	local late=$(($(stat -c %Y spool/done/fits/stdout) - $(sed -n 2p spool/done/fits/stdout)))
	[ "$late" -ge -1 ]
	[ "$late" -le 5 ]
	end_node
}

@test "a job in a VM that waits finds nothing of its rehearsal" {
	mkdir spool
	start_node --warm 1
	until [ "$(jobvm node status --json --spool spool 2>/dev/null | jq .ready)" = 1 ]; do sleep 0.1; done
	put job --user root -- sh -c "$look; find / -xdev | sort"
	done_with job
	end_node
	[ "$(result .host.start.rehearsed job)" = true ]
	jobvm run --quiet --request-memory 64M --user root -- sh -c "$look; find / -xdev | sort" >fresh
	diff fresh spool/done/job/stdout
}

@test "while jobs wait, no VM rehearses; those that wait for jobs have" {
	local i
	for i in 1 2 3 4 5 6; do put "$i" -- true; done
	start_node --warm 1
	done_with 1 2 3 4 5 6
	[ "$(result '.host.start.rehearsed // false' 3)" = false ]
	# One that waits has not rehearsed either, until another has its place.
	i=6 rehearsed=false
	until [ "$rehearsed" = true ]; do
		[ $((i += 1)) -lt 60 ]
		until [ "$(jobvm node status --json --spool spool | jq .ready)" = 1 ]; do sleep 0.1; done
		put "$i" -- true
		done_with "$i"
		rehearsed=$(result '.host.start.rehearsed // false' "$i")
	done
	end_node
	[ "$(for ((; i > 0; i--)); do result .status "$i"; done | sort -u)" = completed ]
}

@test "a waiting VM that is lost is no job's end" {
	own_qemu
	mkdir spool
	start_node --warm 1
	until [ "$(jobvm node status --json --spool spool 2>/dev/null | jq .ready)" = 1 ]; do sleep 0.1; done
	kill -KILL "$(own_qemu_pid)"
	put job -- echo done
	done_with job
	[ "$(cat spool/done/job/stdout)" = "done" ]
	end_node
	grep -q 'another VM is started' node.log
}

@test "with --reuse a job finds nothing that the one before it has left" {
	local leave='for d in /tmp /var/tmp /dev/shm /run /etc /home .; do mkdir -p $d/left; echo secret-$1 >$d/left/file; done
		echo x >>/etc/passwd
		(while :; do sleep 1; done) & setsid sleep 1000 & nohup yes >/dev/null 2>&1 &
		(trap "" TERM HUP; sleep 1000) &
		dd if=/dev/urandom of=/tmp/cache bs=1M count=40 2>/dev/null; cat /tmp/cache >/dev/null'
	put 1 --user root -- sh -c "$look"
	put 2 --user root -- sh -c "$leave" sh 1
	put 3 --user root -- sh -c "$look"
	put 4 -- sh -c "$leave" sh 2
	put 5 --user root -- sh -c "$look"
	start_node --reuse
	done_with 1 2 3 4 5
	end_node
	[ "$(result .host.start.shared 5)" = true ]
	[ "$(result .host.start.jobs_before 5)" = 4 ]
	diff spool/done/1/stdout spool/done/3/stdout
	diff spool/done/1/stdout spool/done/5/stdout
	! grep -r secret spool/done/[135]
	# The commands that look do find what there is.
	jobvm run --quiet --user root -- sh -c "$leave; $look" sh 3 | grep -q left
}

@test "with --reuse no job finds another's data in memory" {
	local program=$build/guest-programs/pattern
	mkdir -p spool/new
	start_node --reuse
	jobvm pack --quiet --request-memory 64M --request-disk 200M --user root -i "$program" \
		-o spool/new/.fill -- ./pattern put 45000 /filled
	mv spool/new/.fill spool/new/fill.img
	put find1 --user root -i "$program" -- ./pattern find 55000
	put find2 --user root -i "$program" -- ./pattern find 55000
	done_with fill find1 find2
	end_node
	[ "$(cat spool/done/fill/stdout)" = found ]
	[ "$(cat spool/done/find1/stdout)" = "not found" ]
	[ "$(cat spool/done/find2/stdout)" = "not found" ]
	[ "$(result .host.start.jobs_before find2)" = 2 ]
}

@test "with --reuse a VM that a job has broken, or could have changed, is no other's" {
	start_node --reuse
	put 1 -- true
	put 2 -- sh -c 'kill -9 $$'
	put 3 --request-disk 200M -- sh -c 'dd if=/dev/zero of=big bs=1M; true'
	put 4 --allowed-execute-duration 1 -- sleep 100
	put 5 --user root --privileged -- sh -c 'echo 1 >/proc/sys/kernel/panic_on_oops; true'
	put 6 -- echo still
	put 7 --user root --privileged -- sh -c 'echo c >/proc/sysrq-trigger; sleep 100'
	put 8 -- echo here
	done_with 1 2 3 4 5 6 7 8
	end_node
	[ "$(for i in 1 2 3 4 5 6 7 8; do result .status $i; done | tr '\n' ' ')" = \
		"completed signaled completed timeout completed completed guest_panic completed " ]
	[ "$(cat spool/done/6/stdout spool/done/8/stdout)" = "$(printf 'still\nhere')" ]
	[ "$(result .host.start.jobs_before 4)" = 3 ]
	# Each loss has another VM in its place, which is shared again.
	[ "$(for i in 5 6 7 8; do result '.host.start.jobs_before' $i; done | tr '\n' ' ')" = "null 0 null 0 " ]
}

@test "a disk that is to come back does, with what the job left on it" {
	start_node
	put job -- sh -c 'echo out; echo made >file' && until [ -e spool/done/job ]; do sleep 0.1; done
	jobvm pack --quiet --request-memory 64M -o spool/new/.back -- sh -c 'echo out; echo made >file'
	mv spool/new/.back spool/new/back.disk
	done_with back
	end_node
	jobvm collect -o collected spool/done/back/job.img
	diff -r collected/output spool/done/job/output
	[ "$(cat collected/stdout)" = out ]
	[ "$(jq -r .host.clean_end collected/job.json)" = true ]
	[ "$(stat -c %a spool/done/back)" = 700 ]
}

@test "'run --spool' is as 'run': exit code, output, results, merge, what it says" {
	mkdir spool tree
	start_node --warm 1
	until [ -e spool/status.json ]; do sleep 0.1; done
	echo input >input
	echo old >tree/old
	run --separate-stderr -7 jobvm run --spool spool --request-memory 64M -i input -o results -- \
		sh -c 'cat input; echo err >&2; echo made >file; exit 7'
	prints input
	says err
	[ "$(cat results/stdout results/output/file)" = "$(printf 'input\nmade')" ]
	[ "$(jq -r .guest.exit_code results/job.json)" = 7 ]
	jobvm run --quiet --spool spool --request-memory 64M -i tree/ --merge tree -- \
		sh -c 'mv old new'
	[ "$(ls tree)" = new ]
	run --separate-stderr -124 jobvm run --spool spool --request-memory 64M \
		--allowed-execute-duration 1 -- sh -c 'echo begun; sleep 100'
	prints begun
	run --separate-stderr -125 jobvm run --spool spool --request-memory 9T -- true
	says "asks for more memory than this host has"
	# What could not be merged is kept, and can be.
	run --separate-stderr -0 jobvm run --spool spool --request-memory 64M -i tree/ --merge tree \
		--dry-run -- sh -c 'echo more >more'
	[ "$(ls tree)" = new ]
	$(grep -o "jobvm collect --merge tree [^']*" <<<"$stderr")
	[ "$(cat tree/more)" = more ]
	run -0 sh -c "'$build/jobvm' run --quiet --spool spool --request-memory 64M -- seq 100000 | head -n 1"
	[ "$output" = 1 ]
	# Nor is what could not be written lost.
	run -125 sh -c "'$build/jobvm' run --spool spool --request-memory 64M -- seq 1000 2>said >/dev/full"
	grep -q "write the job's stdout: No space left" said
	jobvm collect -o full "$(sed -n 's/.* kept as //p' said)"
	[ "$(tail -n 1 full/stdout)" = 1000 ]
	end_node
	rm -r spool/done/*/
	[ -z "$(ls spool/new spool/run | grep -v :)" ]
	run --separate-stderr -2 jobvm run --spool spool --image "$build/image" -- true
	run --separate-stderr -125 jobvm run --spool nowhere -- true
	says "find the spool nowhere"
}

# run_spooled NAME COMMAND: in the background, until it prints its first line; the process in $client.
run_spooled() {
	local name=$1
	shift
	env --default-signal=INT "$build/jobvm" run --spool spool --request-memory 64M \
		-o "$name" -- "$@" >"$name.out" 2>"$name.err" &
	client=$!
}

@test "a job of 'run --spool' is cancelled while it waits, and while it runs" {
	mkdir spool
	start_node
	until [ -e spool/status.json ]; do sleep 0.1; done
	run_spooled long sleep 1000
	long=$client
	until grep -q sleep <<<"$(jq -r '.running[].job' spool/status.json)" ||
		[ "$(jq '.running | length' spool/status.json)" = 1 ]; do sleep 0.1; done
	run_spooled waits echo never
	until [ "$(find spool/new -name '*.disk' | wc -l)" = 1 ]; do sleep 0.1; done
	kill -INT "$client"
	code=0; wait "$client" || code=$?
	[ "$code" = 130 ]
	grep -q 'before a node had it' waits.err
	[ -z "$(ls spool/new)" ]
	kill -TERM "$long"
	code=0; wait "$long" || code=$?
	[ "$code" = 143 ]
	[ "$(jq -r .status long/job.json)" = cancelled ]
	run --separate-stderr -0 jobvm run --spool spool --request-memory 64M -- echo next
	prints next
	# Of a job that is not there, or is another's, such a file means nothing.
	touch spool/new/nothing.cancel
	run --separate-stderr -0 jobvm run --spool spool --request-memory 64M -- echo next
	[ -z "$(ls spool/new spool/run spool/done | grep -v :)" ]
	end_node
}

@test "a job is cancelled that has no VM yet" {
	mkdir spool
	start_node --reuse
	until [ -e spool/status.json ]; do sleep 0.1; done
	run_spooled job sleep 1000
	until [ "$(jq '.running | length' spool/status.json)" = 1 ]; do :; done
	kill -INT "$client"
	code=0; wait "$client" || code=$?
	[ "$code" = 130 ]
	[ "$(jq -r .status job/job.json)" = cancelled ]
	end_node
}

@test "a job of 'run --spool' survives its node, killed or told to end" {
	mkdir spool
	start_node
	until [ -e spool/status.json ]; do sleep 0.1; done
	run_spooled job sh -c 'for i in $(seq 30); do echo $i; sleep 0.1; done'
	until [ "$(jq '.running | length' spool/status.json)" = 1 ]; do sleep 0.1; done
	end_node KILL
	start_node
	sleep 1.2 # of the job's own time, which nothing outside tells of
	end_node
	start_node
	wait "$client"
	end_node
	[ "$(cat job.out)" = "$(seq 30)" ]
	[ "$(jq -r .status job/job.json)" = completed ]
}

@test "a spool of root's serves its users, each for himself" {
	needs_root "serves users"
	local other=(setpriv --reuid 65534 --regid 65534 --clear-groups env TMPDIR=/var/tmp)
	# The suite's own directories are for nobody else.
	public_directory=$(mktemp -d /tmp/jobvm-spool.XXXXXX)
	chmod 755 "$public_directory"
	cd "$public_directory"
	mkdir -p spool/new spool/done
	chmod 1733 spool/new spool/done
	start_node --warm 1
	until [ -e spool/status.json ]; do sleep 0.1; done
	run --separate-stderr -3 "${other[@]}" "$build/jobvm" run --spool spool --request-memory 64M -- \
		sh -c 'echo mine; exit 3'
	prints mine
	[ -z "$(ls spool/new spool/done | grep -v :)" ]
	# What the node's user can read is not theirs to pack, nor what is only linked to.
	printf '%s\n' 'executable = /bin/true' 'transfer_input_files = /etc/shadow' queue >secret.sub
	chmod 644 secret.sub
	"${other[@]}" cp secret.sub spool/new/secret.sub
	put mine -- true && done_with mine
	"${other[@]}" ln -s "$PWD/secret.sub" spool/new/link.sub
	"${other[@]}" "$build/jobvm" pack --quiet --request-memory 64M -o spool/new/theirs.disk -- echo theirs
	done_with secret link theirs
	grep -q "must be of its user" spool/done/secret/error
	grep -q "not a regular file" spool/done/link/error
	[ "$(stat -c '%u %a' spool/done/theirs spool/done/theirs/job.img | sort -u)" = "$(printf '65534 600\n65534 700')" ]
	[ "$(stat -c %a spool/run spool/lock spool/status.json)" = "$(printf '700\n600\n600')" ]
	# One that is in the way of another's results is not the node's end.
	jobvm pack --quiet --request-memory 64M -o spool/new/.slow -- sleep 2
	mv spool/new/.slow spool/new/slow.disk
	until [ -e spool/run/slow.disk ]; do sleep 0.1; done
	"${other[@]}" mkdir -p spool/done/slow/in-the-way
	put after -- echo after
	done_with after
	[ "$(cat spool/done/after/stdout)" = after ]
	end_node
	"${other[@]}" rm -r spool/done/slow
	start_node
	done_with slow
	[ -e spool/done/slow/job.img ]
	end_node
}

@test "a host that can run nothing stops the node, and the jobs wait" {
	fake_qemu 'exit 1'
	local i
	for i in 1 2 3 4 5; do put "$i" -- true; done
	jobvm pack --quiet --request-memory 9T -o spool/new/.huge -- true
	mv spool/new/.huge spool/new/9@huge.img
	start_node --start cold
	code=0
	wait "$node_pid" || code=$?
	node_pid=
	[ "$code" -eq 125 ]
	grep -q '3 jobs in a row could not be run' node.log
	grep -q 'more memory than this host has' spool/done/huge/error
	[ "$(ls spool/done | tr '\n' ' ')" = "1 2 3 huge " ]
	[ "$(result .status 3)" = vmm_failed ]
	[ "$(ls spool/new spool/run | tr '\n' ' ')" = "spool/new: 4.img 5.img  spool/run: " ]
}
