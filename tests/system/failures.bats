# When the VM fails, jobvm says so, and never as if the job had.
load helper

failed_as() {
	says "jobvm failed, not the job"
	[ "$(report .status)" = "$1" ]
	[ "$(report .exit_code)" -eq 125 ]
	[ "$(report .guest)" = null ]
	[ -n "$(report .message)" ]
}

@test "a kernel panic is guest_panic, with the console kept" {
	run --separate-stderr -125 jobvm run -o out --user root --privileged -- \
		sh -c 'echo c >/proc/sysrq-trigger; sleep 100'
	failed_as guest_panic
	says "Kernel panic"
	grep -q "Kernel panic" out/console.log
}

@test "a panic before the job is boot_failed" {
	cp -r "$image" image
	# The part from which the kernel starts PID 1 is of another kind.
	part=$(jq -r 'if .initrd then "initrd" else "root" end' image/image.json)
	file=$(jq -r ".$part.file" image/image.json)
	head -c 1024 /dev/zero >"image/$file"
	jq --arg part "$part" --arg sha256 "$(sha256sum <"image/$file" | cut -d" " -f1)" \
		'.[$part] += {size_bytes: 1024, $sha256}' image/image.json >new.json
	mv new.json image/image.json
	run --separate-stderr -125 jobvm run --image image -o out -- true
	failed_as boot_failed
}

@test "an image that was damaged since it was built is refused by the part's name" {
	cp -r "$image" image
	run --separate-stderr -0 jobvm image inspect image
	printf X | dd of=image/root.img bs=1 seek=4000 conv=notrunc status=none
	run --separate-stderr -125 jobvm run --image image -- true
	says "image/root.img: the image's root is damaged or was changed since it was built"
	run --separate-stderr -125 jobvm image inspect image
	says "image/root.img: the image's root is damaged"
}

@test "a QEMU that is killed is vmm_failed" {
	own_qemu
	start_job -o out -- sh -c 'echo up; sleep 100000'
	kill -KILL "$(own_qemu_pid)"
	end_job
	[ "$code" -eq 125 ]
	stderr=$(cat stderr)
	failed_as vmm_failed
	says "signal 9"
}

@test "a QEMU that cannot start is vmm_failed, with its words" {
	fake_qemu 'echo "no such machine" >&2' 'exit 3'
	run --separate-stderr -125 jobvm run -o out -- true
	failed_as vmm_failed
	says "no such machine"
	JOBVM_QEMU=$PWD/nothing run --separate-stderr -125 jobvm run -- true
	says "$PWD/nothing"
}

@test "a guest whose PID 1 hangs is unresponsive" {
	run --separate-stderr -125 jobvm run -o out --user root --privileged --heartbeat-timeout 5 \
		-i "$build/guest-programs/hang" -- ./hang
	failed_as unresponsive
}

@test "a QEMU that is stopped is unresponsive, and does not stay" {
	own_qemu
	start_job -o out --heartbeat-timeout 5 -- sh -c 'echo up; sleep 100000'
	kill -STOP "$(own_qemu_pid)"
	end_job
	[ "$code" -eq 125 ]
	stderr=$(cat stderr)
	failed_as unresponsive
	! own_qemu_pid
}

@test "a guest that never speaks is boot_failed" {
	fake_qemu 'exec sleep 100000'
	run --separate-stderr -125 jobvm run -o out --boot-timeout 1 -- true
	failed_as boot_failed
}

@test "a host disk that fills up under the VM is vmm_failed, not the job's fault" {
	needs_small_disk
	run --separate-stderr -125 small_disk 60m "$build/jobvm" run -o out -- \
		sh -c 'dd if=/dev/zero of=big bs=1M count=300; sync'
	failed_as vmm_failed
	says "could not write the VM's disk"
}

@test "a power-off behind PID 1's back is incomplete" {
	[ "$(jq -r .machine "$image/image.json")" = pc ] || skip "a microvm has no power switch"
	run --separate-stderr -125 jobvm run -o out --user root --privileged -- \
		sh -c 'echo o >/proc/sysrq-trigger; sleep 100'
	failed_as incomplete
}

@test "a manifest that PID 1 cannot accept: the VM ends with a record that says why" {
	jobvm pack -o job.img -- true
	debugfs -R "dump manifest manifest" job.img 2>/dev/null
	sed -i 's/^privileged=false/privileged=true/' manifest
	debugfs -w -R "rm manifest" job.img 2>/dev/null
	debugfs -w -R "write manifest manifest" job.img 2>/dev/null
	run --separate-stderr -125 jobvm start job.img
	says "read_manifest: /manifest: key 'privileged'"
	run --separate-stderr -0 jobvm inspect --json job.img
	[ "$(jq -r .status <<<"$output")" = failed_to_start ]
	[ "$(jq -r .guest.stage <<<"$output")" = read_manifest ]
}
