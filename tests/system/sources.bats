# Guest images from tar archives and OCI layouts.
load helper

# One kernel for all: what is tested here is the root.
image_build() {
	SOURCE_DATE_EPOCH=${epoch:-2000000000} jobvm image build --quiet "$@"
}

# tree_of DIRECTORY: all in it, one a line: path, mode, seconds; links and content of what has some.
tree_of() {
	(cd "$1" && find . -mindepth 1 -printf '%P\n') | LC_ALL=C sort | while read -r path; do
		printf '%s 0%03o 0x%08x' "$path" "0$(stat -c %a "$1/$path")" "$(stat -c %Y "$1/$path")"
		[ -d "$1/$path" ] && [ ! -h "$1/$path" ] || printf ' %s' "$(stat -c %h "$1/$path")"
		content_of "$1/$path"
	done
}

content_of() {
	if [ -h "$1" ]; then
		echo " -> $(readlink "$1")"
	elif [ -f "$1" ]; then
		echo " $(sha256sum <"$1")"
	else
		echo
	fi
}

# tree_in IMAGE: the same of an image's root. What debugfs unpacks has the content only.
tree_in() {
	mkdir root
	debugfs -R "rdump / root" "$1/root.img" 2>debugfs.log
	# What the builder adds: the skeleton and mount points.
	rm -rf root/{etc,proc,sys,dev,run,tmp,job,var,root,lost+found}
	(cd root && find . -mindepth 1 -printf 'stat "/%P"\n') | LC_ALL=C sort >stats
	debugfs -f stats "$1/root.img" 2>debugfs.log | awk '
		/^debugfs: stat/ { path = substr($3, 3, length($3) - 3) }
		/^Inode:/ { type = $4; mode = $6 }
		/^Links:/ { links = type == "directory" ? "" : " " $2 }
		/^ mtime:/ { print path, mode, substr($2, 1, 10) links }' | while read -r line; do
		printf '%s' "$line"
		content_of "root/${line%% *}"
	done
}

# add_blob LAYOUT FILE: puts it there; its digest.
add_blob() {
	local digest
	digest=$(sha256sum <"$2" | cut -d ' ' -f 1)
	cp "$2" "$1/blobs/sha256/$digest"
	echo "sha256:$digest"
}

# make_layout LAYOUT CONFIG LAYER...: an OCI layout of tar archives, tagged `latest`.
make_layout() {
	local layout=$1 config=$2 digest layers='[]' diffs='[]' type
	shift 2
	mkdir -p "$layout/blobs/sha256"
	for layer in "$@"; do
		digest=$(add_blob "$layout" "$layer")
		type=application/vnd.oci.image.layer.v1.tar
		case $layer in
		*.gz) type+=+gzip ;;
		*.zst) type+=+zstd ;;
		esac
		layers=$(jq -c --arg d "$digest" --arg t "$type" --argjson s "$(stat -c %s "$layer")" \
			'. + [{mediaType: $t, digest: $d, size: $s}]' <<<"$layers")
		case $layer in
		*.gz) digest=sha256:$(gzip -dc "$layer" | sha256sum | cut -d ' ' -f 1) ;;
		*.zst) digest=sha256:$(zstd -dc "$layer" | sha256sum | cut -d ' ' -f 1) ;;
		esac
		diffs=$(jq -c --arg d "$digest" '. + [$d]' <<<"$diffs")
	done
	jq -cn --argjson c "$config" --argjson d "$diffs" \
		'{os: "linux", architecture: "amd64", config: $c, rootfs: {type: "layers", diff_ids: $d}}' >config.json
	digest=$(add_blob "$layout" config.json)
	jq -cn --arg d "$digest" --argjson s "$(stat -c %s config.json)" --argjson l "$layers" \
		'{schemaVersion: 2, mediaType: "application/vnd.oci.image.manifest.v1+json",
		config: {mediaType: "application/vnd.oci.image.config.v1+json", digest: $d, size: $s},
		layers: $l}' >manifest.json
	digest=$(add_blob "$layout" manifest.json)
	jq -cn --arg d "$digest" --argjson s "$(stat -c %s manifest.json)" \
		'{schemaVersion: 2, manifests: [{mediaType: "application/vnd.oci.image.manifest.v1+json",
		digest: $d, size: $s, annotations: {"org.opencontainers.image.ref.name": "latest"}}]}' >"$layout/index.json"
	echo '{"imageLayoutVersion": "1.0.0"}' >"$layout/oci-layout"
}

# layer NAME DIRECTORY: a layer of a directory's contents, its times all fixed.
layer() {
	find "$2" -exec touch -h -d @1000000000 {} +
	tar --numeric-owner --owner 0 --group 0 --sort=name -C "$2" -cf "$1" .
}

@test "an OCI layout gives the tree that umoci unpacks" {
	command -v umoci >/dev/null || skip "no umoci"
	mkdir -p 0/{dir,opaque/deep,replaced/deep,gone,usr/bin} 1/{opaque,dir} 2/dir
	for file in dir/kept dir/gone opaque/lower opaque/deep/lower replaced/deep/file gone/file usr/bin/tool; do
		echo "0 $file" >"0/$file"
	done
	ln 0/usr/bin/tool 0/usr/bin/other
	ln -s usr/bin 0/bin
	chmod 4755 0/usr/bin/tool
	# One layer with whiteouts, an opaque directory and a directory that becomes a file.
	touch 1/.wh.gone 1/dir/.wh.gone 1/opaque/.wh..wh..opq
	echo "1 upper" >1/opaque/upper
	echo "1 replaced" >1/replaced
	echo "1 tool" >1/dir/new
	ln 1/dir/new 1/dir/linked
	# And one that takes things back, and links to a lower layer.
	mkdir 2/gone 2/replaced
	echo "2 again" >2/gone/again
	echo "2 directory" >2/replaced/file
	chmod 700 2/dir
	touch 2/dir/.wh.linked
	for i in 0 1 2; do
		layer $i.tar $i
	done
	gzip -n 1.tar
	zstd -q 2.tar
	make_layout layout '{}' 0.tar 1.tar.gz 2.tar.zst

	image_build --from oci:layout:latest -o image
	# umoci of Debian 12 knows no zstd: it gets the same layer plain.
	make_layout plain '{}' 0.tar 1.tar.gz 2.tar
	umoci unpack $([ "$(id -u)" -eq 0 ] || echo --rootless) --image plain:latest bundle >/dev/null
	tree_in image >tree
	diff <(tree_of bundle/rootfs) tree
	[ "$(wc -l <tree)" -ge 14 ]

	tar -C layout -cf layout.tar .
	image_build --from oci:layout.tar:latest -o from-tar
	cmp image/root.img from-tar/root.img
	cmp image/image.json from-tar/image.json
}

@test "a layout that umoci made is taken, but not with another layer than the config means" {
	command -v umoci >/dev/null || skip "no umoci"
	rootless=()
	[ "$(id -u)" -eq 0 ] || rootless=(--rootless)
	umoci init --layout layout
	umoci new --image layout:tag
	umoci unpack "${rootless[@]}" --image layout:tag bundle
	for layer in 1 2; do
		echo "$layer" >"bundle/rootfs/$layer"
		umoci repack --refresh-bundle --image layout:tag bundle
	done
	image_build --from oci:layout:tag -o image
	[ "$(debugfs -R 'cat /2' image/root.img 2>/dev/null)" = 2 ]

	# The same layers under a config with their digests swapped.
	blob() {
		echo "layout/blobs/sha256/$(jq -r "$1.digest" "$2" | cut -d : -f 2)"
	}
	manifest=$(blob '.manifests[0]' layout/index.json)
	jq -c '.rootfs.diff_ids |= reverse' "$(blob .config "$manifest")" >config.json
	jq -c --arg d "$(add_blob layout config.json)" --argjson s "$(stat -c %s config.json)" \
		'.config.digest = $d | .config.size = $s' "$manifest" >manifest.json
	jq -c --arg d "$(add_blob layout manifest.json)" --argjson s "$(stat -c %s manifest.json)" \
		'.manifests[0].digest = $d | .manifests[0].size = $s' layout/index.json >index.json
	mv index.json layout
	run --separate-stderr -125 image_build --from oci:layout:tag -o other
	for diff in $(jq -r '.rootfs.diff_ids[]' config.json); do
		says "${diff#sha256:}"
	done
	says "layout: layer 0 is not the one that the config means"
	[ -z "$(find . -maxdepth 1 -name 'other*')" ]
}

@test "an image's environment and command are a job's where it has none" {
	mkdir rootfs
	tar -C "$build/userland" -cf 0.tar .
	make_layout layout '{"Env": ["FROM=image", "OTHER=image"], "Entrypoint": ["/bin/sh", "-c"],
		"Cmd": ["echo $FROM $OTHER $(id -u) $PWD"], "User": "root", "WorkingDir": "/bin"}' 0.tar
	image_build --from oci:layout -o image
	# The image does not make the job root.
	run --separate-stderr -0 jobvm run --image image --env OTHER=job --
	prints "image job 1000 /job"
	run --separate-stderr -0 jobvm run --image image -- sh -c 'echo $FROM'
	prints image
	run --separate-stderr -2 jobvm pack -o job.img --
	says "no command"
	jobvm pack --quiet --image image -o job.img --
	run --separate-stderr -0 jobvm start --image image job.img
	prints "image image 1000 /job"
	run --separate-stderr -0 jobvm image inspect image
	[[ "$output" == *"FROM=image"* ]]
}

@test "a pipe of any compression gives the plain archive's root" {
	tar -C "$build/userland" --numeric-owner -cf userland.tar .
	image_build --from userland.tar -o plain
	for program in gzip xz zstd bzip2; do
		$program -c userland.tar | image_build --from - -o "$program"
		[ "$(jq .root "$program/image.json")" = "$(jq .root plain/image.json)" ]
	done
	image_build --from - -o stdin <userland.tar
	cmp stdin/image.json plain/image.json
	# A writer that died leaves no image.
	head -c 100000 userland.tar >cut
	run --separate-stderr -125 jobvm image build --from - -o cut-image <cut
	says "standard input: near byte"
	[ ! -e cut-image ]
}

@test "on a terminal building shows bytes and files" {
	export TERM=xterm
	mkfifo tar terminal
	mkdir tree
	touch tree/{1..1000}
	tar --blocking-factor 1 -C tree -cf part.tar .
	# An archive that goes on until its reader has seen enough.
	(
		while head -c -1024 part.tar; do :; done >tar 2>/dev/null
	) &
	feeder=$!
	script -qec "$build/jobvm image build --from tar -o image" /dev/null >terminal &
	exec 8<terminal
	tr '\r' '\n' <&8 | grep -E -m 1 'building: root tree: [0-9]+ MB, [0-9]{4,} files'
	kill "$feeder"
	cat <&8 >/dev/null
	wait || true
	[ ! -e image ]
}

# go_elsewhere: makes the directory $elsewhere, for anybody, and finds another user, if it can.
go_elsewhere() {
	other=()
	[ "$(id -u)" -ne 0 ] || other=(setpriv --reuid 65534 --regid 65534 --clear-groups)
	"${other[@]}" test -r "$build/image/kernel" -a -r "$build/init" || skip "no other user can reach $build"
	elsewhere=$(mktemp -d /tmp/jobvm-elsewhere.XXXXXX)
	chmod 777 "$elsewhere"
}

# build_elsewhere OPTION...: builds `second` there as the other user.
build_elsewhere() (
	umask 077
	cd "$elsewhere"
	SOURCE_DATE_EPOCH=2000000000 "${other[@]}" "$build/jobvm" image build --quiet -o second "$@"
)

# leave_elsewhere: compares it with `first`.
leave_elsewhere() {
	[ "$(id -u)" -ne 0 ] || [ "$(stat -c %u "$elsewhere/second/root.img")" -eq 65534 ]
	diff -r first "$elsewhere/second"
	rm -r "$elsewhere"
}

# build_on SIZE FROM: on a disk of that size; its exit code. What stays there is printed.
build_on() {
	small_disk "$1" sh -c '"$0" image build --from "$1" -o small/image; code=$?; ls -A small; exit $code' \
		"$build/jobvm" "$2"
}

@test "a disk that is full is named, and keeps nothing of the image" {
	needs_small_disk
	mkdir tree
	head -c 20M /dev/urandom >tree/data
	tar -cf tree.tar tree
	# The archive's data, the root and the kernel are what may not fit.
	for from in tree.tar tree; do
		run --separate-stderr -125 build_on 10M "$from"
		says "small/image"
		[ -z "$output" ]
	done
	run --separate-stderr -125 build_on 25M tree
	says "small/image/kernel: No space left on device"
	[ -z "$output" ]
}

@test "an image that lacks what a job needs says so and does not hang" {
	mkdir -p empty half/bin
	image_build --from empty -o empty-image
	run --separate-stderr -127 jobvm run --image empty-image -- sh -c 'echo here'
	says "cannot execute 'sh': No such file or directory"
	# A program that is there, but not its loader.
	cp /bin/true half/bin
	image_build --from half -o half-image
	run --separate-stderr -126 jobvm run --image half-image -- /bin/true
	says "cannot execute '/bin/true': not a program for this guest, or its interpreter is not there"
}

@test "the same archive gives the same bytes at another time, umask and user" {
	go_elsewhere
	tar -C "$build/userland" --numeric-owner -cf userland.tar .
	image_build --from userland.tar -o first
	build_elsewhere --from - <userland.tar
	leave_elsewhere
}

@test "root and others get the same bytes from root's directory, attributes and all" {
	needs_root "the tree is root's"
	go_elsewhere
	mkdir -p "$elsewhere/tree/dir"
	echo text >"$elsewhere/tree/dir/file"
	setfattr -n user.color -v red "$elsewhere/tree/dir" || skip "no attributes in /tmp"
	setfattr -n user.color -v blue "$elsewhere/tree/dir/file"
	setfattr -n trusted.color -v green "$elsewhere/tree/dir/file"
	# cap_net_raw=ep
	setfattr -n security.capability -v 0sAQAAAgAgAAAAAAAAAAAAAAAAAAA= "$elsewhere/tree/dir/file"
	image_build --from "$elsewhere/tree" -o first
	build_elsewhere --from tree
	leave_elsewhere
	debugfs -R 'ea_list /dir/file' first/root.img | grep -q security.capability
}

@test "a Debian that an ordinary user made by mmdebstrap runs a Python job" {
	debian_tar python3-minimal
	"${as_user[@]}" test -x "$build/jobvm" || skip "nobody cannot execute $build/jobvm"
	HOME=$user_directory "${as_user[@]}" "$build/jobvm" image build --quiet \
		--from "$user_directory/debian.tar" -o "$user_directory/image"
	printf '3\n4\n5\n' >numbers
	cat >sum.py <<-'PYTHON'
		import os, platform, sys
		total = sum(int(line) for line in open("numbers"))
		os.makedirs("results", exist_ok=True)
		open("results/total", "w").write(f"{total}\n")
		print("python", sys.version_info[0], os.getuid())
	PYTHON
	run --separate-stderr -0 jobvm run --image "$user_directory/image" -i numbers -i sum.py -o out \
		-- python3 sum.py
	prints "python 3 1000"
	[ "$(cat out/output/results/total)" = 12 ]
}
