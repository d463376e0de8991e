# jobvm doctor says whether a job could run.
load helper

@test "doctor runs a test job here, for people and as JSON" {
	run --separate-stderr -0 jobvm doctor
	[[ "$output" == *"test job       ok"* ]]
	jobvm doctor --json >doctor.json
	[ "$(jq -r .can_run_jobs doctor.json)" = true ]
	[ "$(jq -r '.checks | map(.check) | join(" ")' doctor.json)" = \
		"qemu guest image kvm seccomp landlock lazy inputs scratch space test job" ]
}

@test "doctor names what is missing and the command that mends it" {
	run --separate-stderr -125 env PATH=/nowhere "$build/jobvm" doctor
	[[ "$output" == *"qemu           missing"* ]]
	[[ "$output" == *"apt-get install qemu-system-x86"* ]]
	run --separate-stderr -125 jobvm doctor --image nowhere
	[[ "$output" == *"guest image    missing"*"jobvm image build"* ]]
	JOBVM_NBDKIT=/nowhere run --separate-stderr -0 jobvm doctor
	[[ "$output" == *"lazy inputs    note"*"/nowhere"*"apt-get install nbdkit"* ]]
	TMPDIR=/nowhere run --separate-stderr -125 jobvm doctor
	[[ "$output" == *"scratch space  missing"*"/nowhere"* ]]
}

@test "a /dev/kvm that opens proves nothing" {
	[ -w /dev/kvm ] || skip "this host has no /dev/kvm"
	grep -qE ' (vmx|svm) ' /proc/cpuinfo && skip "this host may have a KVM that works"
	run --separate-stderr -0 jobvm doctor
	[[ "$output" == *"kvm            note"* ]]
	run --separate-stderr -125 jobvm run --accel kvm -- true
	says "KVM does not work here"
}
