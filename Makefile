# jobvm: everything that is made goes into build/.
#
#   make run       installs what is missing, builds, and runs a real job in a VM
#   make test      the same for the tests
#   make           only builds
#   make check     the unit tests and the quick system tests, without installing anything
#   make check-hostile   job disks that lie, and what the tools make of them
#   make sanitize  the unit and hostile tests under ASan and UBSan
#   make fuzz      libFuzzer's harnesses under ASan and UBSan, FUZZ_SECONDS (60) each
#   make lint      clang-format, clang-tidy, cppcheck
#   make kernel    the tuned guest kernel (minutes), for 'jobvm image build --kernel tuned'
#   make image-tuned  a guest image with it
#   make install   to PREFIX, below DESTDIR; the tuned kernel too, where it was built
#
# Packages come from Debian by apt; nothing is fetched from anywhere else.

PREFIX  ?= /usr/local
DESTDIR ?=
DATADIR := $(PREFIX)/share/jobvm
B       := build

# make V=1 shows the commands.
Q := $(if $(V),,@)

MUSL_CC ?= musl-gcc
CLANG   ?= clang

FUZZ_SANITIZERS := -fsanitize=fuzzer-no-link,address,undefined

WARNINGS := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	-Wpointer-arith -Wcast-qual -Wwrite-strings -Wundef -Wvla -Wformat=2 -Wno-format-nonliteral \
	-Wno-format-truncation \
	-Wimplicit-fallthrough -Wdouble-promotion
HARDENED := -fstack-protector-strong -fstack-clash-protection -fcf-protection \
	-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2

HOST_PACKAGES := ext2fs e2p blkid uuid libcrypto jansson libkmod libarchive zlib libseccomp libxxhash \
	libzstd
# What a host needs to build and to run, and what the tests need on top.
BUILD_DEBS := gcc libc6-dev make pkg-config musl-tools linux-libc-dev libext2fs-dev libblkid-dev \
	uuid-dev libssl-dev libjansson-dev libkmod-dev libarchive-dev zlib1g-dev \
	libseccomp-dev qemu-system-x86 nbdkit nbdkit-plugin-dev libnbd-dev libxxhash-dev libzstd-dev
TEST_DEBS := bats parallel jq e2fsprogs libcmocka-dev sudo mandoc procps debootstrap git bindfs \
	attr strace xfsprogs umoci mmdebstrap fakeroot fakechroot xz-utils zstd bzip2 disorderfs rsync \
	libnbd-bin gnutls-bin iproute2 libslurm-dev slurm-wlm munge
FUZZ_DEBS := clang libclang-rt-dev
KERNEL_DEBS := bc bison flex libelf-dev patch xz-utils
LINT_DEBS := clang-format clang-tidy cppcheck libslurm-dev

host_cflags = -std=gnu11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -I. -O2 -g $(WARNINGS) $(HARDENED) \
	-fPIE $(shell pkg-config --cflags $(HOST_PACKAGES))
host_ldflags = -pie -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--as-needed
host_libs = $(shell pkg-config --libs $(HOST_PACKAGES)) -lcom_err

# nbdkit's plugins: what they have of the library shall not be seen by nbdkit, and not clash with it.
PLUGIN_PACKAGES := $(HOST_PACKAGES) nbdkit libnbd libxxhash
pic_cflags = $(filter-out -fPIE,$(host_cflags)) -fPIC -fvisibility=hidden \
	$(shell pkg-config --cflags $(PLUGIN_PACKAGES))
pic_ldflags = -shared $(filter-out -pie,$(host_ldflags)) -Wl,-Bsymbolic,--gc-sections
pic_libs = $(shell pkg-config --libs $(PLUGIN_PACKAGES)) -lcom_err

# PID 1: small before fast; nothing unwinds its stack, and no kernel checks its branches' targets.
# The kernel's own headers come after musl's.
init_cflags := -std=gnu11 -D_GNU_SOURCE -I. -Os -g $(WARNINGS) $(HARDENED) -fcf-protection=none \
	-fno-asynchronous-unwind-tables -ffunction-sections -fdata-sections -idirafter /usr/include \
	-idirafter /usr/include/x86_64-linux-gnu
init_ldflags := -static -Wl,--gc-sections,-z,relro,-z,now,-z,noexecstack -s

ROOMS      := jobdisk fsimage imagebuilder host-tools host-tools/vmm host-tools/lazy host-tools/suspend host-tools/node
host_src   := $(foreach room,$(ROOMS),$(wildcard $(room)/*.c))
init_src   := $(wildcard init/*.c jobdisk/*.c)
unit_src   := $(wildcard tests/unit/test_*.c)
host_obj   := $(host_src:%.c=$B/host/%.o)
init_obj   := $(init_src:%.c=$B/guest/%.o)
plugin_src := $(wildcard host-tools/lazy/plugin/*.c)
# What only plugins use: it needs their libraries.
plugin_room_src := $(wildcard host-tools/lazy/engine/*.c)
plugins    := $(plugin_src:host-tools/lazy/plugin/%.c=$B/nbdkit/jobvm-%.so)
pic_obj    := $(patsubst %.c,$B/pic/%.o, \
	$(filter-out host-tools/jobvm.c host-tools/cmd_%.c,$(host_src)) $(plugin_room_src))
# Slurm's plugin, where Slurm's headers are.
spank      := $(if $(wildcard /usr/include/slurm/spank.h),$B/slurm/spank_jobvm.so)
# A unit test may use everything but the program's main.
library_obj := $(filter-out $B/host/host-tools/jobvm.o $B/host/host-tools/cmd_%.o,$(host_obj))
unit_tests := $(unit_src:tests/unit/%.c=$B/unit/%)
fuzz_src   := $(wildcard tests/fuzz/fuzz_*.c)
harnesses  := $(fuzz_src:tests/fuzz/%.c=$B/harnesses/%)
# Programs that the system tests run as jobs.
guest_programs := $(patsubst tests/system/guest/%.c,$B/guest-programs/%, \
	$(wildcard tests/system/guest/*.c))
# Hostile job disks: programs, and what these share.
hostile_programs := $(patsubst %,$B/hostile/%,hostile_image read_image test_kinds mutate)
hostile_obj := $(patsubst tests/hostile/%.c,$B/host/tests/hostile/%.o, \
	$(filter-out tests/hostile/exploit.c $(hostile_programs:$B/hostile/%=tests/hostile/%.c), \
	$(wildcard tests/hostile/*.c)))
# Programs that the system tests run on the host.
host_programs := $(patsubst tests/system/host/%.c,$B/host-programs/%, \
	$(wildcard tests/system/host/*.c))
# Libraries that they preload into jobvm.
preloads   := $(patsubst tests/system/preload/%.c,$B/preload/%.so, \
	$(wildcard tests/system/preload/*.c))
# The jobvm of the tests with an exploit in its reader, and the one that takes few files only.
exploited_obj := $B/host/tests/hostile/exploit.o
few_src    := $(addprefix host-tools/,changes.c disk.c extract.c outputs.c report.c)
few_obj    := $(few_src:%.c=$B/few/%.o)
test_jobvms := $B/exploited/jobvm $B/few/jobvm
test_programs := $(guest_programs) $(host_programs) $(preloads) $(test_jobvms)
product_src := $(host_src) $(wildcard slurm/*.c) $(plugin_src) $(plugin_room_src) $(wildcard host-tools/vmm/preload/*.c) $(wildcard init/*.c)
# Programs that the benchmarks measure.
bench_src  := $(wildcard bench/*.c)
bench_programs := $(bench_src:bench/%.c=$B/bench-programs/%)
c_files    := $(product_src) $(unit_src) $(fuzz_src) $(bench_src) $(wildcard bench/guest/*.c) \
	$(wildcard tests/system/guest/*.c tests/system/host/*.c tests/system/preload/*.c) \
	$(wildcard tests/hostile/*.c)
h_files    := $(wildcard $(ROOMS:%=%/*.h) host-tools/lazy/plugin/*.h host-tools/lazy/engine/*.h host-tools/vmm/preload/*.h init/*.h tests/unit/*.h \
	tests/hostile/*.h tests/fuzz/*.h)
man_pages  := $(wildcard docs/man/*.[157])

.PHONY: all unit-tests hostile-tests sanitized-tests fuzz-programs harnesses deps test-deps \
	fuzz-deps kernel-deps lint-deps kernel image-tuned run test check check-unit check-hostile \
	check-system check-tuned table1 lint format sanitize fuzz bench-programs bench-paper bench-peers install clean
.DELETE_ON_ERROR:

all: $B/jobvm $B/libjobvm-readonly.so $(plugins) $(spank) $B/image/image.json

# --- programs ---

$B/jobvm: $(host_obj)
	@echo '  LINK  $@'
	$Q$(CC) $(host_ldflags) $(LDFLAGS) -o $@ $^ $(host_libs)

$B/init: $(init_obj)
	@echo '  LINK  $@'
	$Q$(MUSL_CC) $(init_ldflags) -o $@ $^

# Loaded into QEMU. On 64 bits the names of large files are names of their own.
$B/libjobvm-readonly.so: host-tools/vmm/preload/readonly.c host-tools/vmm/preload/readonly.h \
		$B/host.flags
	@mkdir -p $(@D)
	@echo '  LINK  $@'
	$Q$(CC) $(filter-out -fPIE -D_FILE_OFFSET_BITS=64,$(host_cflags)) $(CPPFLAGS) $(CFLAGS) -fPIC -shared -o $@ $<

# Slurm's programs have the functions that its plugins call.
$B/slurm/spank_jobvm.so: slurm/spank_jobvm.c host-tools/slurm_pipe.h $B/host.flags
	@mkdir -p $(@D)
	@echo '  LINK  $@'
	$Q$(CC) $(filter-out -fPIE -Wmissing-prototypes,$(host_cflags)) $(CPPFLAGS) $(CFLAGS) -fPIC -shared -o $@ $<

# An archive, of which a plugin takes what it needs.
$B/pic/library.a: $(pic_obj)
	@rm -f $@
	$Qar rcs $@ $^

$B/nbdkit/jobvm-%.so: $B/pic/host-tools/lazy/plugin/%.o $B/pic/library.a
	@mkdir -p $(@D)
	@echo '  LINK  $@'
	$Q$(CC) $(pic_ldflags) $(LDFLAGS) -o $@ $^ $(pic_libs)

.SECONDARY: $(plugin_src:%.c=$B/pic/%.o)

$B/pic/%.o: %.c $B/host.flags
	@mkdir -p $(@D)
	@echo '  CC    $< (plugin)'
	$Q$(CC) $(pic_cflags) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$B/host/%.o: %.c $B/host.flags
	@mkdir -p $(@D)
	@echo '  CC    $<'
	$Q$(CC) $(host_cflags) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$B/guest/%.o: %.c $B/guest.flags
	@mkdir -p $(@D)
	@echo '  CC    $< (guest)'
	$Q$(MUSL_CC) $(init_cflags) -MMD -MP -c -o $@ $<

# Rebuilds when the flags change, and only then.
$B/host.flags: FORCE
	@mkdir -p $B
	@echo '$(CC) $(host_cflags) $(CPPFLAGS) $(CFLAGS)' | cmp -s - $@ || \
		echo '$(CC) $(host_cflags) $(CPPFLAGS) $(CFLAGS)' > $@
$B/guest.flags: FORCE
	@mkdir -p $B
	@echo '$(MUSL_CC) $(init_cflags)' | cmp -s - $@ || echo '$(MUSL_CC) $(init_cflags)' > $@
FORCE:

-include $(host_obj:.o=.d) $(pic_obj:.o=.d) $(plugin_src:%.c=$B/pic/%.d) $(init_obj:.o=.d) $(unit_tests:=.d) $(bench_programs:=.d) \
	$(hostile_obj:.o=.d) $(hostile_programs:=.d) $(exploited_obj:.o=.d) $(few_obj:.o=.d) \
	$(harnesses:=.d)

# --- the default guest image ---

# Debian's cloud kernel and BusyBox, unpacked and not installed.
$B/debian/done: imagebuilder/fetch-debian.sh
	imagebuilder/fetch-debian.sh $B

# The skeleton beside the executable, where 'jobvm image build' looks for it. Of modes, a working
# tree has only what git keeps; the rest is the umask of whoever made it.
$B/skeleton: $(shell find rootfs-skel)
	@rm -rf $@
	@cp -R rootfs-skel $@
	@chmod -R u=rwX,go=rX $@

# The image is made new as a whole, and the old one stays until the new one is there.
$B/image/image.json: $B/jobvm $B/init $B/skeleton $B/debian/done
	@rm -rf $B/image.new
	SOURCE_DATE_EPOCH=0 $B/jobvm image build --quiet -o $B/image.new
	@rm -rf $B/image && mv $B/image.new $B/image

# --- the tuned kernel, and an image with it ---

$B/kernel-tuned/vmlinux: kernel/build.sh kernel/config kernel/virtio-console-buffers.patch
	@$(MAKE) --no-print-directory kernel-deps
	@mkdir -p $B
	kernel/build.sh $B

kernel: $B/kernel-tuned/vmlinux

$B/image-tuned/image.json: $B/jobvm $B/init $B/skeleton $B/debian/done $B/kernel-tuned/vmlinux
	@rm -rf $B/image-tuned.new
	SOURCE_DATE_EPOCH=0 $B/jobvm image build --quiet --kernel tuned -o $B/image-tuned.new
	@rm -rf $B/image-tuned && mv $B/image-tuned.new $B/image-tuned

image-tuned: $B/image-tuned/image.json

# --- running ---

SUDO = $(if $(filter-out 0,$(shell id -u)),sudo)

# Installs those of the Debian packages $(1) that are missing.
define install_debs
	@command -v apt-get >/dev/null || { echo 'not Debian: install the like of $(1)'; exit 0; }; \
	missing=; for deb in $(1); do \
		dpkg-query -W -f '$${db:Status-Status}' $$deb 2>/dev/null | grep -qx installed || \
			missing="$$missing $$deb"; \
	done; \
	[ -z "$$missing" ] || { echo "installing$$missing" && $(SUDO) apt-get update -qq && \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
			--no-install-recommends $$missing >/dev/null; }
endef

deps:
	$(call install_debs,$(BUILD_DEBS))
test-deps:
	$(call install_debs,$(BUILD_DEBS) $(TEST_DEBS) $(FUZZ_DEBS))
fuzz-deps:
	$(call install_debs,$(BUILD_DEBS) $(FUZZ_DEBS))
kernel-deps:
	$(call install_debs,$(KERNEL_DEBS))
lint-deps:
	$(call install_debs,$(BUILD_DEBS) $(LINT_DEBS))

# A real job: what Debian's packages occupy, section by section.
run: deps
	@$(MAKE) --no-print-directory all
	@mkdir -p $B/sections
	@apt-cache dumpavail > $B/sections/available
	$B/jobvm run --usage docs/examples/sections/sections.sub
	@cat $B/sections/top-ten.txt

# --- tests ---

test: test-deps
	@$(MAKE) --no-print-directory all unit-tests hostile-tests $(test_programs)
	@$(MAKE) --no-print-directory sanitized-tests
	@[ ! -e $B/kernel-tuned/vmlinux ] || $(MAKE) --no-print-directory image-tuned
	@$(MAKE) --no-print-directory fuzz-programs
	tests/run unit hostile sanitized system $(if $(wildcard $B/kernel-tuned/vmlinux),tuned) fuzz

check: all unit-tests $(test_programs)
	tests/run unit quick

# The paper's Table 1, filled from what happens.
table1: test-deps
	@$(MAKE) --no-print-directory all
	@tests/table1

check-unit: unit-tests
	tests/run unit

check-system: all $(test_programs)
	tests/run system

# The system tests that depend on the guest kernel, with the tuned one.
check-tuned: all $(test_programs)
	@$(MAKE) --no-print-directory image-tuned
	tests/run tuned

check-hostile: all hostile-tests
	tests/run hostile

unit-tests: $(unit_tests)

$B/guest-programs/%: tests/system/guest/%.c $B/guest.flags
	@mkdir -p $(@D)
	@echo '  CC    $< (guest)'
	$Q$(MUSL_CC) $(init_cflags) $(init_ldflags) -o $@ $<

$B/host-programs/%: tests/system/host/%.c $B/host.flags
	@mkdir -p $(@D)
	@echo '  CC    $<'
	$Q$(CC) $(host_cflags) $(CPPFLAGS) $(CFLAGS) $(host_ldflags) $(LDFLAGS) -o $@ $<

# It uses a part of jobvm, which looks for its plugin beside it.
$B/host-programs/fetch-disk: tests/system/host/fetch-disk.c $(library_obj) $B/host.flags
	@mkdir -p $(@D)
	@ln -sfn ../nbdkit $(@D)/nbdkit
	@echo '  CC    $<'
	$Q$(CC) $(host_cflags) $(CPPFLAGS) $(CFLAGS) $(host_ldflags) $(LDFLAGS) -o $@ $< \
		$(library_obj) $(host_libs) -lnbd

$B/preload/%.so: tests/system/preload/%.c $B/host.flags
	@mkdir -p $(@D)
	@echo '  CC    $<'
	$Q$(CC) -std=gnu11 -D_GNU_SOURCE -O2 -g $(WARNINGS) -fPIC -shared -o $@ $<

$B/exploited/jobvm: $(host_obj) $(exploited_obj)
	@mkdir -p $(@D)
	@echo '  LINK  $@'
	$Q$(CC) $(host_ldflags) $(LDFLAGS) -Wl,--wrap=fsimage_lookup -o $@ $^ $(host_libs)

$B/few/%.o: %.c $B/host.flags
	@mkdir -p $(@D)
	@echo '  CC    $< (few files)'
	$Q$(CC) $(host_cflags) -DCHANGES_MAX=20 $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$B/few/jobvm: $(filter-out $(few_src:%.c=$B/host/%.o),$(host_obj)) $(few_obj)
	@mkdir -p $(@D)
	@echo '  LINK  $@'
	$Q$(CC) $(host_ldflags) $(LDFLAGS) -o $@ $^ $(host_libs)

$B/unit/%: tests/unit/%.c $(library_obj) $B/host.flags
	@mkdir -p $(@D)
	@echo '  TEST  $<'
	$Q$(CC) $(host_cflags) $(CPPFLAGS) $(CFLAGS) $(host_ldflags) $(LDFLAGS) -MMD -MP -o $@ $< \
		$(library_obj) $(host_libs) -lcmocka

hostile-tests: $(hostile_programs)

.SECONDARY: $(hostile_obj)

$B/hostile/%: tests/hostile/%.c $(hostile_obj) $(library_obj) $B/host.flags
	@mkdir -p $(@D)
	@echo '  TEST  $<'
	$Q$(CC) $(host_cflags) $(CPPFLAGS) $(CFLAGS) $(host_ldflags) $(LDFLAGS) -MMD -MP -o $@ $< \
		$(hostile_obj) $(library_obj) $(host_libs) -lcmocka

bench-programs: $(bench_programs) $B/bench-guest/random_reads

# The paper's experiments, to build/bench/paper.
bench-paper: test-deps kernel-deps
	$(call install_debs,gnuplot-nox python3)
	@$(MAKE) --no-print-directory all kernel
	@$(MAKE) --no-print-directory image-tuned $B/bench-guest/random_reads
	@bench/paper

bench-peers: test-deps kernel-deps
	$(call install_debs,bubblewrap guestfish openssl)
	@$(MAKE) --no-print-directory all kernel
	@$(MAKE) --no-print-directory image-tuned bench-programs
	@bench/peers

$B/bench-guest/%: bench/guest/%.c $B/guest.flags
	@mkdir -p $(@D)
	@echo '  CC    $< (guest)'
	$Q$(MUSL_CC) $(init_cflags) $(init_ldflags) -o $@ $<

$B/bench-programs/%: bench/%.c $(library_obj) $B/host.flags
	@mkdir -p $(@D)
	@echo '  CC    $<'
	$Q$(CC) $(host_cflags) $(CPPFLAGS) $(CFLAGS) $(host_ldflags) $(LDFLAGS) -MMD -MP -o $@ $< \
		$(library_obj) $(host_libs)

# The unit and hostile tests again, in a build of their own.
sanitized-tests:
	@$(MAKE) --no-print-directory B=$B/sanitized \
		CFLAGS='-O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all' \
		LDFLAGS='-fsanitize=address,undefined' HARDENED= unit-tests hostile-tests

sanitize: sanitized-tests
	tests/run sanitized

# libFuzzer's harnesses, in a build of their own. Some have a part of the product compiled in, so
# the rest is an archive: what a harness has itself is not taken from there.
fuzz-programs:
	@$(MAKE) --no-print-directory B=$B/fuzz CC='$(CLANG)' WARNINGS='-Wall -Wextra -Werror -Wno-string-plus-int' \
		CFLAGS='-O1 -fno-omit-frame-pointer $(FUZZ_SANITIZERS) -fno-sanitize-recover=all' \
		LDFLAGS='$(FUZZ_SANITIZERS)' HARDENED= harnesses

harnesses: $(harnesses)

$B/library.a: $(library_obj)
	@rm -f $@
	$Qar rcs $@ $^

$B/harnesses/%: tests/fuzz/%.c $B/library.a $B/host.flags
	@mkdir -p $(@D)
	@echo '  FUZZ  $<'
	$Q$(CC) $(host_cflags) $(CPPFLAGS) $(CFLAGS) $(host_ldflags) $(LDFLAGS) -fsanitize=fuzzer \
		-MMD -MP -o $@ $< $B/library.a $(host_libs)

fuzz: fuzz-deps
	@$(MAKE) --no-print-directory fuzz-programs
	FUZZ_SECONDS=$(or $(FUZZ_SECONDS),60) tests/run fuzz

# The tests are only formatted: what they do to memory on purpose is what linters complain of.
lint: lint-deps
	@clang-format --dry-run --Werror $(c_files) $(h_files)
	@printf '%s\n' $(product_src) | xargs -P "$$(nproc)" -n 8 sh -c 'clang-tidy --quiet "$$@" -- \
		$(filter-out -W%,$(host_cflags)) \
		$(shell pkg-config --cflags $(PLUGIN_PACKAGES)) 2>/dev/null' clang-tidy
	@cppcheck --quiet --error-exitcode=1 --std=c11 --enable=warning,performance,portability \
		--inline-suppr --suppress=missingIncludeSystem -I. $(product_src)

format:
	clang-format -i $(c_files) $(h_files)

# --- installing ---

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(DATADIR)/image $(DESTDIR)$(DATADIR)/kernel
	install -m 755 $B/jobvm $(DESTDIR)$(PREFIX)/bin/jobvm
	install -m 755 $B/init $(DESTDIR)$(DATADIR)/init
	install -m 644 $B/libjobvm-readonly.so $(DESTDIR)$(DATADIR)/libjobvm-readonly.so
	install -D -m 644 -t $(DESTDIR)$(DATADIR)/nbdkit $(plugins)
	install -m 644 $B/image/* $(DESTDIR)$(DATADIR)/image
	[ -z '$(spank)' ] || install -D -m 644 $(spank) \
		$(DESTDIR)$(PREFIX)/lib/slurm/spank_jobvm.so
	cp -R --preserve=mode $B/skeleton $B/userland $(DESTDIR)$(DATADIR)
	cp -R --preserve=mode $B/kernel/. $(DESTDIR)$(DATADIR)/kernel
	[ ! -e $B/kernel-tuned/vmlinux ] || install -D -m 644 $B/kernel-tuned/vmlinux \
		$(DESTDIR)$(DATADIR)/kernel-tuned/vmlinux
	for page in $(man_pages); do section=$${page##*.}; \
		install -D -m 644 $$page $(DESTDIR)$(PREFIX)/share/man/man$$section/$${page##*/}; \
	done

clean:
	rm -rf $B
