# The same input gives the same bytes: guest images and job disks, made twice.
load helper

epoch=1700000000
job_id=6f1c1d52-6d0c-4c0f-9a53-5a8f4d4f7c5e

# Beside the suite's own directories, which nobody else may enter.
setup() {
	place=$(mktemp -d /tmp/jobvm-reproducible.XXXXXX)
	chmod 755 "$place"
	cd "$place"
	export SOURCE_DATE_EPOCH=$epoch TMPDIR=$place
	mkdir first elsewhere
	chmod 777 elsewhere
}

teardown() {
	cd /
	[ ! -d "$place/shuffled" ] || fusermount -u "$place/shuffled" || sudo -n umount "$place/shuffled" || true
	rm -rf "$place" || sudo -n rm -rf "$place"
}

# make_tree DIRECTORY: a root of 300 files, with all that could come out in another order or way.
make_tree() {
	local i
	mkdir -p "$1"/{bin,deep/er/still,many}
	for i in {1..300}; do
		echo "$i" >"$1/many/$((i * 7919 % 1000)).$i"
	done
	# Names of one file, in directories before and behind it.
	echo linked >"$1/many/middle"
	ln "$1/many/middle" "$1/many/a-name"
	ln "$1/many/middle" "$1/many/z-name"
	ln "$1/many/middle" "$1/bin/linked"
	ln "$1/many/middle" "$1/deep/er/linked"
	ln -s ../many/middle "$1/deep/symlink"
	ln "$1/deep/symlink" "$1/bin/symlink"
	ln -s /no/where "$1/dangling"
	mkfifo "$1/fifo"
	# A hole, blocks of zeros, a block of zeros at the end, and nothing but zeros.
	truncate -s 5M "$1/holes"
	echo end >>"$1/holes"
	head -c 20000 /dev/zero >"$1/zeros"
	(
		echo begin
		head -c 200000 /dev/zero
		echo middle
		head -c 9000 /dev/zero
	) >"$1/mixed"
	head -c 300000 /dev/urandom >"$1/random"
	: >"$1/empty"
	echo n >"$1/deep/Größe"
	echo n >"$1/deep/"$'\xff\xfe'
	chmod 1775 "$1/deep/er/still"
	setfattr -n user.b -v 1 "$1/random" || echo "# no extended attributes in /tmp" >&3
	setfattr -n user.a -v 2 "$1/random" "$1/deep" || true
	touch -d '2001-02-03 04:05:06.789012345 UTC' "$1/random" "$1/deep/er"
	touch -h -d '2002-02-03 04:05:06.5 UTC' "$1/dangling"
	# In the epoch's own second, and in the future.
	touch -d "@$((epoch)).5" "$1/empty"
	touch -d '2035-01-01 UTC' "$1/mixed" "$1/deep"
	chmod -R a+rX "$1"
	chmod 4755 "$1/bin/linked"
}

# make_layout LAYOUT ARCHIVE: an OCI layout of one layer.
make_layout() {
	command -v umoci >/dev/null || skip "no umoci"
	umoci init --layout "$1"
	umoci new --image "$1:latest"
	umoci raw add-layer --image "$1:latest" "$2"
}

# make_source KIND: what --from gets, in $from, with %s for the directory that `source` is in.
make_source() {
	make_tree source/tree
	[ "$1" = directory ] || tar -C source/tree --xattrs --format=pax --sparse -cf source/root.tar .
	[ "$1" != oci ] || make_layout source/layout source/root.tar
	chmod -R a+rX source
	case $1 in
	directory) from=%s/source/tree ;;
	tar) from=%s/source/root.tar ;;
	oci) from=oci:%s/source/layout ;;
	esac
}

# first_image OPTION...: makes the one that the others are compared with.
first_image() {
	(cd first && jobvm image build --quiet "$@" -o image)
}

# same_image IMAGE: it is the first one, byte for byte.
same_image() {
	[ "$(ls first/image)" = "$(ls "$1")" ]
	for part in first/image/*; do
		cmp "$part" "$1/${part##*/}"
	done
}

# elsewhere COMMAND...: runs it in another directory, environment, umask and with more descriptors.
elsewhere() {
	(
		umask 077
		cd elsewhere
		exec 7</dev/null 8</dev/null 9</dev/null 23</dev/null
		exec env -i PATH="$PATH" LC_ALL=C.UTF-8 LANG=de_DE.UTF-8 TZ=Pacific/Kiritimati HOME=/nowhere \
			USER=other SOURCE_DATE_EPOCH=$epoch "$@"
	)
}

# Another user's way to run things, in $other; root becomes nobody, and a user root.
needs_other_user() {
	if [ "$(id -u)" -eq 0 ]; then
		other=(setpriv --reuid 65534 --regid 65534 --clear-groups)
	else
		other=(sudo -n env SOURCE_DATE_EPOCH=$epoch)
	fi
	"${other[@]}" true || skip "no way to become another user: sudo wants a password"
	"${other[@]}" test -r "$build/init" -a -x "$build/jobvm" -a -r "$build/skeleton/etc/passwd" \
		-a -r "$build/kernel/vmlinuz" || skip "no other user can reach $build"
}

# shuffle DIRECTORY: shows it as `shuffled`, its names in another order each time.
shuffle() {
	command -v disorderfs >/dev/null || skip "no disorderfs"
	mkdir shuffled
	disorderfs --quiet --shuffle-dirents=yes "$1" shuffled ||
		sudo -n disorderfs --quiet --multi-user=yes --shuffle-dirents=yes "$1" shuffled || {
		rmdir shuffled
		skip "FUSE does not work here: disorderfs cannot mount"
	}
}

# touch_all DIRECTORY: reads it all, and gives its files another ctime.
touch_all() {
	find "$1" -type f -exec cat {} + >/dev/null
	find "$1" ! -type l -exec chmod u+r {} +
}

image_elsewhere() {
	make_source "$1"
	first_image --from "${from/\%s/..}"
	mkdir elsewhere/copied
	cp -a source elsewhere/copied
	touch_all elsewhere/copied
	elsewhere "$build/jobvm" image build --quiet --from "${from/\%s/copied}" -o image
	same_image elsewhere/image
}

@test "an image of a directory is the same elsewhere, later, with another umask and environment" {
	image_elsewhere directory
}

@test "an image of an archive is the same elsewhere, later, with another umask and environment" {
	image_elsewhere tar
}

@test "an image of an OCI layout is the same elsewhere, later, with another umask and environment" {
	image_elsewhere oci
}

image_of_other_user() {
	needs_other_user
	make_source "$1"
	first_image --from "${from/\%s/$place}"
	elsewhere "${other[@]}" "$build/jobvm" image build --quiet --from "${from/\%s/$place}" -o image
	[ "$(stat -c %u elsewhere/image/root.img)" -ne "$(id -u)" ]
	same_image elsewhere/image
}

@test "an image of a directory is the same when another user makes it" {
	image_of_other_user directory
}

@test "an image of an archive is the same when another user makes it" {
	image_of_other_user tar
}

@test "an image of an OCI layout is the same when another user makes it" {
	image_of_other_user oci
}

@test "whoever a directory belongs to is root in the image, whoever builds it" {
	needs_root "to give a directory away"
	needs_other_user
	make_tree tree
	first_image --from ../tree
	chown -hR 65534:65534 tree
	chmod 4755 tree/bin/linked # chown takes the bit away
	jobvm image build --quiet --from tree -o image
	same_image image
	elsewhere "${other[@]}" "$build/jobvm" image build --quiet --from ../tree -o image
	same_image elsewhere/image
	# Others keep what is theirs.
	chown -h 65533:65533 tree/random
	jobvm image build --quiet --from tree -o third
	debugfs -R 'stat /random' third/root.img 2>debugfs.log | grep -q 'User: 65533   Group: 65533'
}

@test "an image is the same in whatever order its sources' names are read" {
	mkdir inputs
	make_tree inputs/tree
	cp "$build/kernel/vmlinuz" inputs
	cp -R "$build/kernel/modules" inputs
	tar -C inputs/tree -cf inputs/root.tar ./many
	make_layout inputs/layout inputs/root.tar
	shuffle inputs
	[ "$(ls -U shuffled/tree/many)" != "$(ls -U shuffled/tree/many)" ]
	arguments=(--kernel %s/vmlinuz --modules %s/modules --from %s/tree --from oci:%s/layout)
	first_image "${arguments[@]/\%s/../inputs}"
	for i in 1 2 3; do
		jobvm image build --quiet "${arguments[@]/\%s/shuffled}" -o "image-$i"
		same_image "image-$i"
	done
}

@test "an image is the same whatever of its files the host keeps as holes" {
	make_tree tree
	cp -a --sparse=always tree sparse
	cp -a --sparse=never tree full
	[ "$(stat -c %b sparse/zeros)" -lt "$(stat -c %b full/zeros)" ] || skip "/tmp has no holes"
	first_image --from ../tree
	for copy in sparse full; do
		jobvm image build --quiet --from $copy -o image-$copy
		same_image image-$copy
	done
	# Blocks of zeros take no room.
	[ "$(debugfs -R 'stat /zeros' first/image/root.img 2>debugfs.log | sed -n 's/.*Blockcount: //p')" -eq 0 ]
}

@test "an image with the tuned kernel is the same elsewhere, later, with another umask and environment" {
	[ -e "$build/kernel-tuned/vmlinux" ] || skip "no tuned kernel: make kernel"
	make_tree tree
	first_image --kernel tuned --from ../tree
	[ ! -e first/image/initrd ]
	touch_all tree
	elsewhere "$build/jobvm" image build --quiet --kernel tuned --from ../tree -o image
	same_image elsewhere/image
}

@test "what the default image is made of does not depend on the umask" {
	# A working tree as git makes it, and Debian's tools, without their downloads.
	(
		umask 077
		mkdir -p checkout tools build
		cp -R "$root/rootfs-skel" checkout
		chmod -R go= checkout
		make -s -C checkout -f "$root/Makefile" B=../build ../build/skeleton
		printf '#!/bin/sh\necho "  Depends: linux-image-1"\n' >tools/apt-cache
		printf '#!/bin/sh\nfor last; do :; done\n: >"${last}_1.deb"\n' >tools/apt-get
		cat >tools/dpkg-deb <<-SCRIPT
			#!/bin/sh
			mkdir -p "\$3/boot" "\$3/lib/modules/1" "\$3/bin"
			: >"\$3/boot/vmlinuz-1"
			cp -p "$build/userland/bin/busybox" "\$3/bin"
		SCRIPT
		chmod +x tools/*
		PATH=$PWD/tools:$PATH "$root/imagebuilder/fetch-debian.sh" build
	)
	for part in skeleton userland; do
		diff <(modes_of "$build/$part") <(modes_of "build/$part")
		[ -z "$(find "build/$part" ! -perm -o+r)" ]
	done
}

modes_of() {
	(cd "$1" && find . -printf '%m %y %p\n' | LC_ALL=C sort)
}

# --- job disks ---

# The job that all of them hold, with its inputs in $inputs.
pack() {
	"${1:-jobvm}" pack --quiet --job-id $job_id -i "$inputs/tree" -i "$inputs/more/" -i "$inputs/file" \
		--stdin "$inputs/file" --env B=2 --env A=1 --request-disk 64M -o job.img -- sh -c 'cat; ls'
}

make_inputs() {
	mkdir -p inputs/more
	make_tree inputs/tree
	make_tree inputs/more/contents
	echo stdin >inputs/file
}

first_disk() {
	(inputs=../inputs && cd first && pack)
}

@test "a job disk is the same elsewhere, later, with another umask and environment" {
	make_inputs
	first_disk
	cp -a inputs elsewhere
	touch_all elsewhere/inputs
	elsewhere job_id=$job_id inputs=inputs bash -c "$(declare -f pack); pack $build/jobvm"
	cmp first/job.img elsewhere/job.img
}

@test "a job disk is the same when another user makes it" {
	needs_other_user
	make_inputs
	first_disk
	elsewhere "${other[@]}" env job_id=$job_id inputs="$place/inputs" \
		bash -c "$(declare -f pack); pack $build/jobvm"
	[ "$(stat -c %u elsewhere/job.img)" -ne "$(id -u)" ]
	"${other[@]}" chmod a+r elsewhere/job.img
	cmp first/job.img elsewhere/job.img
}

@test "a job disk is the same in whatever order its inputs' names are read" {
	make_inputs
	shuffle inputs
	first_disk
	for i in 1 2 3; do
		mkdir $i
		(inputs=../shuffled && cd $i && pack)
		cmp first/job.img $i/job.img
	done
}

@test "a job disk is the same whatever of its inputs the host keeps as holes" {
	make_inputs
	first_disk
	for sparse in always never; do
		mkdir $sparse
		cp -a --sparse=$sparse inputs $sparse
		(inputs=inputs && cd $sparse && pack)
		cmp first/job.img $sparse/job.img
	done
}

@test "a submit description's job disk is the same elsewhere" {
	mkdir first/inputs
	make_tree first/inputs/tree
	printf '#!/bin/sh\nls\n' >first/inputs/run
	cat >first/inputs/job.sub <<-'SUB'
		executable = run
		transfer_input_files = tree, tree/many/
		transfer_output_files = out
		environment = "A=1 B=2"
		queue
	SUB
	cp -a first/inputs elsewhere
	(cd first/inputs && jobvm pack --quiet --job-id $job_id -o ../job.img job.sub)
	elsewhere sh -c "cd inputs && $build/jobvm pack --quiet --job-id $job_id -o ../job.img job.sub"
	cmp first/job.img elsewhere/job.img
}

@test "a job of a given id runs as that" {
	jobvm pack --job-id "${job_id^^}" -o job.img -- echo ran
	[ "$(jobvm inspect --json job.img | jq -r .job_id)" = $job_id ]
	run --separate-stderr -0 jobvm start job.img
	prints ran
	jobvm collect job.img -o out
	[ "$(jq -r .job_id out/job.json)" = $job_id ]
}

# mtime_of PATH: of an input, in seconds.
mtime_of() {
	debugfs -R "stat $1" job.img 2>debugfs.log | sed -n 's/^ mtime: 0x\([0-9a-f]*\):.*/\1/p'
}

@test "SOURCE_DATE_EPOCH is the latest time on a job disk; without it times are kept" {
	echo >input
	touch -d '2035-01-01 UTC' input
	jobvm pack -o job.img -i input -- true
	[ $((0x$(mtime_of /input/input))) -eq $epoch ]
	[ $((0x$(mtime_of /manifest))) -eq $epoch ]
	rm job.img
	unset SOURCE_DATE_EPOCH
	jobvm pack --job-id $job_id -o job.img -i input -- true
	[ $((0x$(mtime_of /input/input))) -eq "$(date -d '2035-01-01 UTC' +%s)" ]
	[ $((0x$(mtime_of /manifest))) -gt $epoch ]
}

@test "a job id that is none, and a SOURCE_DATE_EPOCH that is no time, are errors" {
	for id in nonsense '' "${job_id}0" "${job_id/-/}" 00000000-0000-0000-0000-000000000000; do
		run --separate-stderr -2 jobvm pack --job-id "$id" -o job.img -- true
		says "option '--job-id': '$id'"
	done
	# Each run of a job is another one.
	run --separate-stderr -2 jobvm run --job-id $job_id -- true
	says "unknown option '--job-id'"
	for time in '' today -1 ' 5' +5 5x 99999999999999999999; do
		SOURCE_DATE_EPOCH=$time run --separate-stderr -125 jobvm pack -o job.img -- true
		says "SOURCE_DATE_EPOCH: '$time' is not a number of seconds"
	done
	[ ! -e job.img ]
}
