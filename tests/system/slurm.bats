# A Slurm cluster of two nodes on this machine, and jobvm as what its users run.
load helper

# The nodes, the controller and their files are this file's own; they end with it.
setup_file() {
	[ "$(id -u)" -eq 0 ] || return 0
	cluster=$(mktemp -d /tmp/jobvm-slurm.XXXXXX)
	export cluster SLURM_CONF=$cluster/slurm.conf
	chmod 755 "$cluster"
	mkdir "$cluster"/{state,n1,n2,munge}
	local build port=$((20000 + RANDOM % 20000))
	build=$(cd "${B:-$BATS_TEST_DIRNAME/../../build}" && pwd)
	cp "$build/slurm/spank_jobvm.so" "$cluster"
	echo "required $cluster/spank_jobvm.so jobvm=$build/jobvm images=$build" >"$cluster/plugstack.conf"
	chown munge "$cluster/munge"
	dd if=/dev/urandom of="$cluster/munge/key" bs=1024 count=1 status=none
	chmod 400 "$cluster/munge/key"
	chown munge "$cluster/munge/key"
	cat >"$SLURM_CONF" <<-END
		ClusterName=jobvm
		SlurmctldHost=$(hostname -s)(127.0.0.1)
		SlurmUser=root
		SlurmctldPort=$port
		SlurmctldPidFile=$cluster/slurmctld.pid
		SlurmctldLogFile=$cluster/slurmctld.log
		SlurmdPidFile=$cluster/%n/slurmd.pid
		SlurmdLogFile=$cluster/%n/slurmd.log
		SlurmdSpoolDir=$cluster/%n
		StateSaveLocation=$cluster/state
		PlugStackConfig=$cluster/plugstack.conf
		AuthType=auth/munge
		AuthInfo=socket=$cluster/munge/socket,cred_expire=5
		CredType=cred/munge
		ProctrackType=proctrack/linuxproc
		TaskPlugin=task/none
		MpiDefault=none
		SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0
		SchedulerType=sched/builtin
		SelectType=select/cons_tres
		SelectTypeParameters=CR_CPU_Memory
		PreemptType=preempt/partition_prio
		PreemptMode=REQUEUE
		JobRequeue=1
		KillWait=30
		ReturnToService=2
		NodeName=n1 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=$((port + 1)) CPUs=2 RealMemory=4000
		NodeName=n2 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=$((port + 2)) CPUs=2 RealMemory=4000
		PartitionName=low Nodes=n1,n2 Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=0 DefMemPerNode=1000
		PartitionName=high Nodes=n1,n2 PriorityTier=9 PreemptMode=OFF DefMemPerNode=1000
	END
	sudo -u munge munged --key-file="$cluster/munge/key" --socket="$cluster/munge/socket" \
		--pid-file="$cluster/munge/pid" --log-file="$cluster/munge/log" \
		--seed-file="$cluster/munge/seed" 3>&-
	slurmctld 3>&-
	slurmd -N n1 3>&-
	slurmd -N n2 3>&-
	local tries=0
	until [ "$(sinfo -h -t idle -o %D 2>/dev/null)" = 2 ]; do
		sleep 0.2
		[ $((tries += 1)) -lt 300 ] || { cat "$cluster"/*.log "$cluster"/n?/*.log && return 1; }
	done
}

teardown_file() {
	[ -n "${cluster:-}" ] || return 0
	local pid
	for pid in "$cluster"/n?/slurmd.pid "$cluster/slurmctld.pid" "$cluster/munge/pid"; do
		[ ! -s "$pid" ] || kill "$(cat "$pid")"
	done
	for pid in "$cluster"/n?/slurmd.pid "$cluster/slurmctld.pid"; do
		while [ -e "$pid" ]; do sleep 0.1; done
	done
	rm -rf "$cluster"
}

in_slurm() {
	needs_root "starts Slurm's daemons"
	chmod 755 . "$BATS_TEST_TMPDIR"
	export SBATCH_EXPORT=ALL
}

# ended ID STATE: waits for the job's end, which is to be that.
ended() {
	local state tries=0
	while :; do
		state=$(scontrol -o show job "$1" | sed -n 's/.* JobState=\([A-Z_]*\) .*/\1/p')
		case $state in
		PENDING | RUNNING | COMPLETING | REQUEUED | PREEMPTED) ;;
		*) break ;;
		esac
		sleep 0.2
		[ $((tries += 1)) -lt 600 ] || state=HANGS
	done
	[ "$state" = "$2" ] || { scontrol show job "$1" && tail -n 20 out* && return 1; }
}

# script LINE...: a batch script.
script() {
	printf '%s\n' '#!/bin/bash' "$@" >job.sh
}

@test "srun runs a command in a VM: its exit code, its output, its files" {
	in_slurm
	echo hello >input
	run --separate-stderr -7 srun --jobvm-image=image --jobvm-input=input \
		sh -c 'cat input; echo $SLURM_PROCID >made; uname -n; exit 7'
	[ "${lines[0]}" = hello ]
	[ "${lines[1]}" != "$(uname -n)" ]
	[ "$(cat made)" = 0 ]
	run --separate-stderr ! srun --jobvm-image=missing true
	says missing
}

@test "a task that cannot have its VM does not run" {
	in_slurm
	local line
	cp "$cluster/plugstack.conf" before
	for line in "jobvm=$PWD/missing images=$build" "jobvm=$build/jobvm image=$build" \
		"spool=$PWD"; do
		echo "required $cluster/spank_jobvm.so $line" >"$cluster/plugstack.conf"
		run --separate-stderr ! srun --jobvm-image="$build/image" echo native
		prints ""
	done
	# A line that cannot be read might have said that nothing is to run natively.
	run --separate-stderr ! srun echo native
	prints ""
	mv before "$cluster/plugstack.conf"
	run --separate-stderr -0 srun echo native
}

@test "a batch script is a job, and each task of a step is one" {
	in_slurm
	# The guest has no bash.
	script '#SBATCH --jobvm-image=image' 'uname -n; echo $SLURM_JOB_NAME >name'
	sed -i 1s/bash/sh/ job.sh
	id=$(sbatch --parsable -o out-%j job.sh)
	ended "$id" COMPLETED
	[ "$(cat name)" = job.sh ]
	[ "$(cat "out-$id")" != "$(uname -n)" ]
	run --separate-stderr -0 srun -n 2 --mem=1400 --jobvm-image=image \
		sh -c 'echo "task $SLURM_PROCID"; echo $SLURM_PROCID >task.$SLURM_PROCID'
	[ "$(sort <<<"$output")" = "$(printf 'task %s\n' 0 1)" ]
	[ "$(cat task.*)" = "$(printf '%s\n' 0 1)" ]
}

@test "a task's processors and memory are its job's" {
	in_slurm
	script "$build/jobvm run -- sh -c 'nproc; cat /sys/fs/cgroup/memory.max 2>/dev/null || true'" \
		"$build/jobvm run -o out -- true"
	id=$(sbatch --parsable -c 2 --mem=1500 -o out-%j job.sh)
	ended "$id" COMPLETED
	[ "$(head -n 1 "out-$id")" = 2 ]
	# 1500 MiB less a sixteenth and 256 MiB.
	[ "$(report .manifest.memory_limit_bytes)" -eq $((1500 * 1048576 - 1500 * 65536 - 256 * 1048576)) ]
	# Of srun's own jobs too, which have it nowhere in their environment.
	srun --mem=1500 --jobvm-image=image awk '/MemTotal/ { print $2 }' /proc/meminfo >total
	[ "$(cat total)" -gt $((1500 * 1024 - 1500 * 64 - 256 * 1024)) ]
}

@test "an array of 20 jobs" {
	in_slurm
	script "exec $build/jobvm run --getenv 'SLURM_ARRAY_TASK_ID' -- sh -c 'echo \$((SLURM_ARRAY_TASK_ID * SLURM_ARRAY_TASK_ID))'"
	id=$(sbatch --parsable --array=1-20 --mem=900 -o out-%a job.sh)
	for i in $(seq 20); do
		ended "${id}_$i" COMPLETED
		[ "$(cat "out-$i")" -eq $((i * i)) ]
	done
}

@test "a cancelled job leaves nothing running" {
	in_slurm
	script "exec $build/jobvm run -- sh -c 'echo up; sleep 600'"
	own_qemu
	id=$(sbatch --parsable -o out job.sh)
	until grep -qs up out; do sleep 0.1; done
	scancel "$id"
	ended "$id" CANCELLED
	local tries=0
	while own_qemu_pid >/dev/null; do
		sleep 0.2
		[ $((tries += 1)) -lt 200 ]
	done
}

@test "a job that takes more memory than it has is out of memory in Slurm too" {
	in_slurm
	local hog='x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done'
	script "exec $build/jobvm run --request-memory 32M -o out -- sh -c '$hog'"
	id=$(sbatch --parsable -o said job.sh)
	ended "$id" OUT_OF_MEMORY
	[ "$(report .status)" = out_of_memory ]
	# The script has more to do, and does it; another end with the same exit code is another.
	script "$build/jobvm run --request-memory 32M -- sh -c '$hog'; echo and on"
	id=$(sbatch --parsable -o said job.sh)
	ended "$id" OUT_OF_MEMORY
	grep -qx 'and on' said
	script "exec $build/jobvm run -- sh -c 'exit 137'"
	id=$(sbatch --parsable -o said job.sh)
	ended "$id" FAILED
	[[ "$(scontrol -o show job "$id")" == *" ExitCode=137:0 "* ]]
}

@test "so is one of srun's; a step of another job is just a step" {
	in_slurm
	local hog='x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done'
	run ! srun -J hog --mem=700 --jobvm-image=image sh -c "$hog"
	id=$(scontrol -o show job | sed -n 's/^JobId=\([0-9]*\) JobName=hog .*/\1/p')
	ended "$id" OUT_OF_MEMORY
	script "srun --mem=700 --jobvm-image=$build/image sh -c '$hog'; echo and on"
	id=$(sbatch --parsable -o said job.sh)
	ended "$id" COMPLETED
	grep -qx 'and on' said
}

@test "a job that is preempted goes on from where it was" {
	in_slurm
	script "exec $build/jobvm run -- sh -c 'i=0; while [ \$i -lt 40 ]; do i=\$((i + 1)); echo \$i; sleep 0.3; done'"
	id=$(sbatch --parsable --requeue --open-mode=append -p low -o out job.sh)
	until [ "$(wc -l <out 2>/dev/null)" -gt 5 ] 2>/dev/null; do sleep 0.1; done
	[[ "$(scontrol -o show job "$id")" == *" NodeList=n1 "* ]]
	# The node's processors go to who is more important; the other node has some.
	srun -p high -w n1 -c 2 sh -c 'until [ -e go ]; do sleep 0.1; done' &
	local high=$!
	until ls jobvm-*.state >/dev/null 2>&1; do sleep 0.1; done
	ended "$id" COMPLETED
	touch go
	wait "$high"
	[ "$(grep -E '^[0-9]+$' out)" = "$(seq 40)" ]
	[ "$(scontrol -o show job "$id" | sed -n 's/.* Restarts=\([0-9]*\) .*/\1/p')" -ge 1 ]
	[[ "$(scontrol -o show job "$id")" == *" NodeList=n2 "* ]]
	[ -z "$(ls | grep jobvm- || true)" ]
}


@test "a job at its time limit is suspended, and goes on when it is requeued" {
	in_slurm
	script "exec $build/jobvm run -- sh -c 'i=0; while [ \$i -lt 200 ]; do i=\$((i + 1)); echo \$i; sleep 1; done'"
	# Slurm looks at limits every half minute.
	id=$(sbatch --parsable --requeue --open-mode=append --time=1 -o out job.sh)
	ended "$id" TIMEOUT
	ls jobvm-*.state
	local lines
	lines=$(grep -cE '^[0-9]+$' out)
	[ "$lines" -gt 30 ]
	[ "$lines" -lt 120 ]
	scontrol requeue "$id"
	scontrol update jobid="$id" timelimit=5
	until [ "$(grep -cE '^[0-9]+$' out)" -gt "$((lines + 3))" ]; do sleep 0.1; done
	scancel "$id"
	ended "$id" CANCELLED
	[ "$(grep -E '^[0-9]+$' out)" = "$(seq "$(grep -cE '^[0-9]+$' out)")" ]
}

# node_only OPTION...: from here on a jobvm node is the machine's only way to run jobs; in $node.
node_only() {
	mkdir spool
	"$build/jobvm" node --quiet --spool spool "$@" &
	node=$!
	cp "$cluster/plugstack.conf" "$cluster/plugstack.before"
	echo "required $cluster/spank_jobvm.so jobvm=$build/jobvm spool=$PWD/spool" >"$cluster/plugstack.conf"
	until [ -e spool/status.json ]; do sleep 0.1; done
}

end_node_only() {
	mv "$cluster/plugstack.before" "$cluster/plugstack.conf"
	kill "$node"
	wait "$node"
}

teardown() {
	[ -z "${node:-}" ] || { kill -KILL "$node" 2>/dev/null && end_node_only; } || true
}

# runs_by_node: what a task, a batch script and a cancelled job are then.
runs_by_node() {
	run --separate-stderr -7 srun sh -c 'uname -n; cat input; echo $SLURM_PROCID >made; exit 7'
	[ "${lines[0]}" != "$(uname -n)" ]
	run --separate-stderr -7 srun --jobvm-input=input sh -c 'cat input; echo $SLURM_PROCID >made; exit 7'
	prints hello
	[ "$(cat made)" = 0 ]
	run --separate-stderr ! srun --jobvm-image=image true
	says "the node's image"
	script 'uname -n; echo $SLURM_JOB_NAME >name'
	sed -i 1s/bash/sh/ job.sh
	id=$(sbatch --parsable -o out-%j job.sh)
	ended "$id" COMPLETED
	[ "$(cat name)" = job.sh ]
	[ "$(cat "out-$id")" != "$(uname -n)" ]
	script 'sleep 1000'
	sed -i 1s/bash/sh/ job.sh
	id=$(sbatch --parsable -o out-%j job.sh)
	until [ "$(jq '.running | length' spool/status.json)" = 1 ]; do sleep 0.1; done
	scancel "$id"
	ended "$id" CANCELLED
	until [ "$(jq '.running | length' spool/status.json)" = 0 ]; do sleep 0.1; done
	script 'dd if=/dev/zero of=/dev/shm/big bs=1M; true'
	sed -i 1s/bash/sh/ job.sh
	id=$(sbatch --parsable -o out-%j job.sh)
	ended "$id" OUT_OF_MEMORY
	[ -z "$(ls spool/new spool/run spool/done | grep -v :)" ]
}

@test "a jobvm node is a Slurm node's only way to run jobs" {
	in_slurm
	echo hello >input
	node_only --slots 2
	runs_by_node
	[ "$(jq '.done' spool/status.json)" -ge 5 ]
	end_node_only
}

# ran_here OPTION...: how much of what srun lets a user run beside the task, or load into it, did run.
ran_here() {
	rm -f ran linked.*
	srun --task-prolog="$PWD/beside" --task-epilog="$PWD/beside" \
		--export="ALL,LD_DEBUG=files,LD_DEBUG_OUTPUT=$PWD/linked" "$@" echo task >stdout
	[ "$(cat stdout)" = task ]
	# When the step is over, so is its epilog.
	until [ "$(squeue -h -t all -o %T | grep -cv 'COMPLETED\|FAILED\|CANCELLED')" = 0 ]; do sleep 0.1; done
	ls | grep -c '^ran\|^linked' || true
}

@test "nothing else of a user's runs on such a machine" {
	in_slurm
	printf '%s\n' '#!/bin/sh' "echo beside >>'$PWD/ran'" >beside
	chmod 755 beside
	[ "$(ran_here --jobvm-image=image)" -ge 2 ]
	node_only
	[ "$(ran_here)" = 0 ]
	end_node_only
}

@test "so is one that reuses its VMs" {
	in_slurm
	echo hello >input
	# As large as a task's memory makes its job's VM (under_slurm).
	local memory=$((1000 * 1024 - 1000 * 64 - 256 * 1024))K
	node_only --reuse --request-memory "$memory"
	runs_by_node
	srun --mem=1000 true
	srun --mem=1000 true
	jobvm run --quiet --spool spool --request-memory "$memory" -o result -- true
	[ "$(report .host.start.shared result/job.json)" = true ]
	[ "$(report .host.start.jobs_before result/job.json)" -ge 2 ]
	end_node_only
}
