/* Which modules a guest gets, and in which order, from a module tree made of tiny ELF files. */
#include <elf.h>

#include "imagebuilder/modules.h"
#include "tests/unit/scratch.h"

#define RELEASE "6.1.0-test"

/* A module as far as libkmod looks: an ELF file with a section of "key=value" strings. */
static void write_module_for(const char *path, const char *depends, const char *release)
{
	struct {
		Elf64_Ehdr header;
		Elf64_Shdr sections[3];
		char names[24];
		char info[256];
	} elf = {.names = "\0.modinfo\0.shstrtab"};
	size_t info_bytes =
		(size_t)snprintf(elf.info, sizeof(elf.info), "depends=%s%cvermagic=%s SMP%c",
				 depends, 0, release, 0);

	memcpy(elf.header.e_ident, ELFMAG, SELFMAG);
	elf.header.e_ident[EI_CLASS] = ELFCLASS64;
	elf.header.e_ident[EI_DATA] = ELFDATA2LSB;
	elf.header.e_ident[EI_VERSION] = EV_CURRENT;
	elf.header.e_type = ET_REL;
	elf.header.e_machine = EM_X86_64;
	elf.header.e_ehsize = sizeof(elf.header);
	elf.header.e_shoff = sizeof(elf.header);
	elf.header.e_shentsize = sizeof(elf.sections[0]);
	elf.header.e_shnum = 3;
	elf.header.e_shstrndx = 2;
	elf.sections[1] = (Elf64_Shdr){.sh_name = 1,
				       .sh_type = SHT_PROGBITS,
				       .sh_offset = (size_t)(elf.info - (char *)&elf),
				       .sh_size = info_bytes};
	elf.sections[2] = (Elf64_Shdr){.sh_name = 10,
				       .sh_type = SHT_STRTAB,
				       .sh_offset = (size_t)(elf.names - (char *)&elf),
				       .sh_size = sizeof(elf.names)};
	scratch_write(path, &elf, sizeof(elf));
}

static void write_module(const char *path, const char *depends)
{
	write_module_for(path, depends, RELEASE);
}

/* A tree with all that is needed, as distributions name it. */
static void write_tree(void)
{
	write_module("tree/kernel/drivers/virtio/virtio.ko", "virtio_ring");
	write_module("tree/kernel/drivers/virtio/virtio_ring.ko", "");
	write_module("tree/kernel/drivers/virtio/virtio-pci-modern-dev.ko", "");
	write_module("tree/kernel/drivers/virtio/virtio_pci.ko",
		     "virtio_ring,virtio,virtio_pci_modern_dev");
	write_module("tree/kernel/drivers/block/virtio_blk.ko", "virtio,virtio_ring");
	write_module("tree/kernel/drivers/char/virtio_console.ko", "virtio,virtio_ring");
	write_module("tree/kernel/drivers/net/unrelated.ko", "nothing_known");
	write_module("tree/kernel/fs/overlayfs/overlay.ko", "");
	scratch_write_text("tree/modules.builtin", "kernel/fs/ext4/ext4.ko\n");
}

/* "name name name", in the order of loading. */
static const char *names(const struct module_list *modules)
{
	static char text[512];

	text[0] = '\0';
	for (size_t i = 0; i < modules->count; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", i ? " " : "",
			 modules->items[i].name);
	return text;
}

static void assert_resolves_to(const char *expected)
{
	struct module_list modules;
	struct error error;

	if (modules_resolve("tree", RELEASE, &modules, &error))
		fail_msg("%s", error.text);
	assert_string_equal(names(&modules), expected);
	modules_free(&modules);
}

static void assert_fails_with(const char *expected)
{
	struct module_list modules;
	struct error error;

	assert_int_equal(modules_resolve("tree", RELEASE, &modules, &error), -1);
	assert_string_equal(error.text, expected);
	assert_null(modules.items);
}

static void dependencies_come_first_and_once(void **state)
{
	(void)state;
	write_tree();
	assert_resolves_to("virtio_ring virtio virtio_pci_modern_dev virtio_pci virtio_blk "
			   "virtio_console overlay");
}

static void file_names_are_kept(void **state)
{
	struct module_list modules;
	struct error error;

	(void)state;
	write_tree();
	assert_int_equal(modules_resolve("tree", RELEASE, &modules, &error), 0);
	assert_string_equal(module_file_name(&modules.items[2]), "virtio-pci-modern-dev.ko");
	assert_string_equal(modules.items[2].path,
			    "tree/kernel/drivers/virtio/virtio-pci-modern-dev.ko");
	modules_free(&modules);
}

static void built_in_modules_are_left_out(void **state)
{
	(void)state;
	write_tree();
	scratch_write_text("tree/modules.builtin", "kernel/fs/ext4/ext4.ko\n"
						   "kernel/drivers/virtio/virtio.ko\n"
						   "kernel/drivers/virtio/virtio_ring.ko\n"
						   "kernel/drivers/virtio/virtio-pci.ko\n");
	assert_resolves_to("virtio_blk virtio_console overlay");
}

static void modular_ext4_brings_its_checksum(void **state)
{
	(void)state;
	write_tree();
	scratch_write_text("tree/modules.builtin", "");
	write_module("tree/kernel/fs/ext4/ext4.ko", "jbd2");
	write_module("tree/kernel/fs/jbd2/jbd2.ko", "");
	write_module("tree/kernel/crypto/crc32c_generic.ko", "");
	assert_resolves_to("virtio_ring virtio virtio_pci_modern_dev virtio_pci virtio_blk "
			   "virtio_console overlay crc32c_generic jbd2 ext4");
}

static void missing_module_is_an_error(void **state)
{
	(void)state;
	write_tree();
	assert_int_equal(unlink("tree/kernel/fs/overlayfs/overlay.ko"), 0);
	assert_fails_with("tree: has no module 'overlay', which the guest needs");
}

static void missing_dependency_is_an_error(void **state)
{
	(void)state;
	write_tree();
	assert_int_equal(unlink("tree/kernel/drivers/virtio/virtio_ring.ko"), 0);
	assert_fails_with("tree/kernel/drivers/virtio/virtio_pci.ko: needs module 'virtio_ring', "
			  "which is not in tree");
}

static void compressed_module_is_an_error(void **state)
{
	(void)state;
	write_tree();
	assert_int_equal(rename("tree/kernel/fs/overlayfs/overlay.ko",
				"tree/kernel/fs/overlayfs/overlay.ko.xz"),
			 0);
	assert_fails_with("tree/kernel/fs/overlayfs/overlay.ko.xz: compressed modules are not "
			  "supported, decompress it");
}

static void module_of_another_kernel_is_an_error(void **state)
{
	(void)state;
	write_tree();
	write_module_for("tree/kernel/fs/overlayfs/overlay.ko", "", RELEASE "2");
	assert_fails_with("tree/kernel/fs/overlayfs/overlay.ko: is for kernel 6.1.0-test2, but the "
			  "kernel is 6.1.0-test");
}

static void broken_module_is_an_error(void **state)
{
	(void)state;
	write_tree();
	scratch_write_text("tree/kernel/fs/overlayfs/overlay.ko", "not an ELF file");
	assert_fails_with("read module tree/kernel/fs/overlayfs/overlay.ko: Exec format error");
}

static void directory_without_the_list_is_an_error(void **state)
{
	(void)state;
	write_tree();
	assert_int_equal(unlink("tree/modules.builtin"), 0);
	assert_fails_with("tree: not a kernel's lib/modules/RELEASE: open tree/modules.builtin: No "
			  "such file or directory");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_SCRATCH(dependencies_come_first_and_once),
		IN_SCRATCH(file_names_are_kept),
		IN_SCRATCH(built_in_modules_are_left_out),
		IN_SCRATCH(modular_ext4_brings_its_checksum),
		IN_SCRATCH(missing_module_is_an_error),
		IN_SCRATCH(missing_dependency_is_an_error),
		IN_SCRATCH(compressed_module_is_an_error),
		IN_SCRATCH(module_of_another_kernel_is_an_error),
		IN_SCRATCH(broken_module_is_an_error),
		IN_SCRATCH(directory_without_the_list_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
