/* The key of a template, and what is accepted as its description. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "host-tools/template.h"
#include "tests/unit/scratch.h"

#define SHA256_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define SHA256_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static struct image image(void)
{
	return (struct image){
		.directory = (char *)(uintptr_t) "image",
		.kernel = (char *)(uintptr_t) "kernel",
		.root = (char *)(uintptr_t) "root.img",
		.kernel_sha256 = (char *)(uintptr_t)SHA256_A,
		.root_sha256 = (char *)(uintptr_t)SHA256_A,
		.machine = (char *)(uintptr_t) "microvm",
	};
}

static struct template_wish wish(const struct image *of)
{
	return (struct template_wish){
		.image = of, .accel = ACCEL_TCG, .memory_bytes = 256ULL << 20, .cpus = 1};
}

static void get_key(const struct template_wish *of, char key[DIGEST_HEX_BYTES])
{
	struct error error;

	assert_int_equal(template_key(of, key, &error), 0);
	assert_int_equal(strlen(key), DIGEST_HEX_BYTES - 1);
}

static void write_qemu(const char *text)
{
	FILE *file = fopen("qemu", "w");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	assert_int_equal(chmod("qemu", 0755), 0);
	setenv("JOBVM_QEMU", "./qemu", 1);
}

static void test_key_is_of_all_that_a_clone_depends_on(void **state)
{
	char first[DIGEST_HEX_BYTES], other[DIGEST_HEX_BYTES];
	struct image a = image(), b = image();
	struct template_wish wanted = wish(&a);

	setenv("XDG_CACHE_HOME", *state, 1);
	write_qemu("one");
	get_key(&wanted, first);
	get_key(&wanted, other);
	assert_string_equal(first, other);

	b.kernel_sha256 = (char *)(uintptr_t)SHA256_B;
	wanted = wish(&b);
	get_key(&wanted, other);
	assert_string_not_equal(first, other);
	b = image();
	b.root_sha256 = (char *)(uintptr_t)SHA256_B;
	get_key(&wanted, other);
	assert_string_not_equal(first, other);
	b = image();
	b.initrd = (char *)(uintptr_t) "initrd";
	b.initrd_sha256 = (char *)(uintptr_t)SHA256_B;
	get_key(&wanted, other);
	assert_string_not_equal(first, other);
	b = image();
	b.machine = (char *)(uintptr_t) "pc";
	get_key(&wanted, other);
	assert_string_not_equal(first, other);

	wanted = wish(&a);
	wanted.cpus = 2;
	get_key(&wanted, other);
	assert_string_not_equal(first, other);
	wanted = wish(&a);
	wanted.memory_bytes += 1 << 20;
	get_key(&wanted, other);
	assert_string_not_equal(first, other);
	wanted = wish(&a);
	wanted.accel = ACCEL_KVM;
	get_key(&wanted, other);
	assert_string_not_equal(first, other);
	wanted = wish(&a);
	write_qemu("two");
	get_key(&wanted, other);
	assert_string_not_equal(first, other);
}

static struct template_facts facts(void)
{
	struct template_facts some = {
		.memory_bytes = 603979776, .state_bytes = 184867, .tsc_khz = 2100002};

	strcpy(some.key, SHA256_A);
	strcpy(some.memory_sha256, SHA256_B);
	strcpy(some.state_sha256, SHA256_A);
	return some;
}

static void test_facts_come_back(void **state)
{
	struct template_facts some = facts(), read;
	char *text = template_facts_text(&some);
	struct error error;

	(void)state;
	assert_non_null(text);
	memset(&read, 0, sizeof(read));
	assert_int_equal(template_facts_parse(text, "facts", &read, &error), 0);
	assert_memory_equal(&some, &read, sizeof(some));
	free(text);
}

/* Every bit of it, and every length. */
static void test_damaged_facts_are_refused(void **state)
{
	struct template_facts some = facts(), read;
	char *text = template_facts_text(&some);
	size_t length = strlen(text);
	struct error error;

	(void)state;
	for (size_t i = 0; i < length * 8; i++) {
		text[i / 8] = (char)(text[i / 8] ^ (1 << i % 8));
		assert_int_equal(template_facts_parse(text, "facts", &read, &error), -1);
		text[i / 8] = (char)(text[i / 8] ^ (1 << i % 8));
	}
	assert_int_equal(template_facts_parse(text, "facts", &read, &error), 0);
	for (size_t i = length; i-- > 0;) {
		text[i] = '\0';
		assert_int_equal(template_facts_parse(text, "facts", &read, &error), -1);
	}
	free(text);
}

static void digest_of(int fd, char hex[DIGEST_HEX_BYTES])
{
	struct error error;

	assert_int_equal(digest_sparse_file_hex(fd, "file", hex, &error), 0);
}

static void test_holes_and_zeros_digest_the_same(void **state)
{
	char holes[DIGEST_HEX_BYTES], zeros[DIGEST_HEX_BYTES], other[DIGEST_HEX_BYTES];
	static const char page[4096];
	FILE *file = tmpfile();
	int fd = fileno(file);

	(void)state;
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	assert_int_equal(pwrite(fd, "data", 4, 300000), 4);
	digest_of(fd, holes);
	for (off_t offset = 0; offset < 64 * 4096; offset += 4096)
		assert_int_equal(pwrite(fd, page, sizeof(page), offset), sizeof(page));
	digest_of(fd, zeros);
	assert_string_equal(holes, zeros);

	/* The same data elsewhere, a bit in what was a hole, and another size are other files. */
	assert_int_equal(pwrite(fd, "\1", 1, 999999), 1);
	digest_of(fd, other);
	assert_string_not_equal(holes, other);
	assert_int_equal(pwrite(fd, "\0", 1, 999999), 1);
	digest_of(fd, other);
	assert_string_equal(holes, other);
	assert_int_equal(pwrite(fd, "\0\0\0\0", 4, 300000), 4);
	assert_int_equal(pwrite(fd, "data", 4, 400000), 4);
	digest_of(fd, other);
	assert_string_not_equal(holes, other);
	assert_int_equal(pwrite(fd, "\0\0\0\0", 4, 400000), 4);
	assert_int_equal(pwrite(fd, "data", 4, 300000), 4);
	assert_int_equal(ftruncate(fd, (1 << 20) + 1), 0);
	digest_of(fd, other);
	assert_string_not_equal(holes, other);
	fclose(file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_SCRATCH(test_key_is_of_all_that_a_clone_depends_on),
		cmocka_unit_test(test_facts_come_back),
		cmocka_unit_test(test_damaged_facts_are_refused),
		cmocka_unit_test(test_holes_and_zeros_digest_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
