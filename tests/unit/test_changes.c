/* What a job changed, read from the layers of its workspace: upper, packed inputs, input disk. */
#include "tests/unit/fsimage_helpers.h"

#include "host-tools/changes.h"
#include "jobdisk/layout.h"

static const struct fsmeta plain = {.mode = 0644, .uid = 1000, .gid = 1000, .mtime = {TEST_NOW, 7}};
static const struct fsmeta later = {.mode = 0644, .uid = 1000, .gid = 1000, .mtime = {TEST_NOW, 8}};

/* A layer of the workspace that is being made. */
struct layer {
	struct fstree *tree;
	struct fsnode *root;
};

/* Directories of a path are made as they are needed. */
static struct fsnode *directory_of(const struct layer *layer, const char *path, const char **name)
{
	struct fsnode *directory = layer->root;

	for (const char *slash; (slash = strchr(path, '/')); path = slash + 1) {
		char *part = strndup(path, slash - path);
		struct fsnode *child = fstree_child(directory, part);
		if (!child)
			child = fstree_add_directory(layer->tree, directory, part, &plain,
						     &test_error);
		assert_non_null(child);
		free(part);
		directory = child;
	}
	*name = path;
	return directory;
}

static void file(const struct layer *layer, const char *path, const char *text,
		 const struct fsmeta *meta)
{
	const char *name;
	struct fsnode *directory = directory_of(layer, path, &name);

	assert_non_null(fstree_add_bytes(layer->tree, directory, name, meta, text, strlen(text),
					 &test_error));
}

static void whiteout(const struct layer *layer, const char *path)
{
	static const struct fsmeta device = {.mode = S_IFCHR};
	const char *name;
	struct fsnode *directory = directory_of(layer, path, &name);

	assert_non_null(fstree_add_special(layer->tree, directory, name, &device, 0, &test_error));
}

static void opaque(const struct layer *layer, const char *path)
{
	const char *name;
	struct fsnode *directory = directory_of(layer, path, &name);
	struct fsnode *node =
		fstree_add_directory(layer->tree, directory, name, &plain, &test_error);

	assert_non_null(node);
	assert_success(
		fstree_set_xattr(layer->tree, node, "trusted.overlay.opaque", "y", 1, &test_error));
}

/* --- the layers of a test, and what comes of them --- */

struct workspace {
	struct layer upper, packed, inputs;
};

static struct workspace new_workspace(void)
{
	struct fstree *disk = new_tree(), *inputs = new_tree();
	struct fsnode *root = fstree_root(disk);

	return (struct workspace){
		.upper = {disk,
			  fstree_add_directory(disk, root, JOBDISK_OUTPUT, &plain, &test_error)},
		.packed = {disk,
			   fstree_add_directory(disk, root, JOBDISK_INPUT, &plain, &test_error)},
		.inputs = {inputs, fstree_root(inputs)},
	};
}

static int append(void *context, const struct change *change, struct error *error)
{
	(void)error;
	fprintf(context, "%s %s%s;", change_kind_name(change->kind), change->path,
		change->stat.mode ? "" : "?");
	return 0;
}

static void expect_of(const struct overlay *overlay, const char *expected)
{
	char *text;
	size_t size;
	FILE *stream = open_memstream(&text, &size);

	assert_success(changes_find(overlay, append, stream, &test_error));
	fclose(stream);
	assert_string_equal(text, expected);
	free(text);
}

/* All changes as one line, with what is on the input disk known or not. Frees the trees. */
static void expect(struct workspace *workspace, const char *known, const char *unknown)
{
	struct fsimage_options options = default_options();

	assert_success(write_image(workspace->upper.tree, "disk.img", &options));
	options.journal = false;
	assert_success(write_image(workspace->inputs.tree, "inputs.img", &options));
	fstree_free(workspace->upper.tree);
	fstree_free(workspace->inputs.tree);

	struct opened disk = open_image("disk.img"), inputs = open_image("inputs.img");
	expect_of(&(struct overlay){disk.image, inputs.image}, known);
	expect_of(&(struct overlay){.disk = disk.image}, unknown);
	close_image(&disk);
	close_image(&inputs);
}

static void test_changed_and_deleted(void **state)
{
	struct workspace workspace = new_workspace();

	(void)state;
	file(&workspace.inputs, "a", "old", &plain);
	file(&workspace.inputs, "dir/b", "old", &plain);
	file(&workspace.inputs, "dir/untouched", "old", &plain);
	file(&workspace.upper, "a", "new", &later);
	whiteout(&workspace.upper, "dir/b");
	whiteout(&workspace.upper, "dir/never");
	file(&workspace.upper, "dir/new", "new", &later);
	expect(&workspace, "changed a;deleted dir/b;created dir/new;",
	       "created a;created dir;deleted dir/b?;deleted dir/never?;created dir/new;");
}

static void test_copied_up_only(void **state)
{
	struct workspace workspace = new_workspace();

	(void)state;
	file(&workspace.inputs, "same", "1234", &plain);
	file(&workspace.inputs, "longer", "1234", &plain);
	file(&workspace.inputs, "later", "1234", &plain);
	file(&workspace.upper, "same", "1234", &plain);
	file(&workspace.upper, "longer", "12345", &plain);
	file(&workspace.upper, "later", "1234", &later);
	expect(&workspace, "changed later;changed longer;",
	       "created later;created longer;created same;");
}

static void test_packed_above_input_disk(void **state)
{
	struct workspace workspace = new_workspace();

	(void)state;
	/* The packed file hides the served one, and of both directories' entries all are there. */
	file(&workspace.packed, "both", "packed", &plain);
	file(&workspace.inputs, "both", "served and longer", &plain);
	file(&workspace.packed, "dir/packed", "1", &plain);
	file(&workspace.inputs, "dir/served", "1", &plain);
	file(&workspace.inputs, "hidden/file", "1", &plain);
	file(&workspace.packed, "hidden", "a file above a directory", &plain);
	file(&workspace.upper, "both", "packed", &plain);
	whiteout(&workspace.upper, "dir/packed");
	whiteout(&workspace.upper, "dir/served");
	whiteout(&workspace.upper, "hidden");
	expect(&workspace, "deleted dir/packed;deleted dir/served;deleted hidden;",
	       "deleted dir/packed;deleted dir/served?;deleted hidden;");
}

static void test_directory_made_anew(void **state)
{
	struct workspace workspace = new_workspace();

	(void)state;
	file(&workspace.packed, "dir/packed", "1", &plain);
	file(&workspace.inputs, "dir/served", "1", &plain);
	file(&workspace.inputs, "dir/kept", "1", &plain);
	opaque(&workspace.upper, "dir");
	file(&workspace.upper, "dir/kept", "2", &later);
	expect(&workspace, "changed dir/kept;deleted dir/packed;deleted dir/served;",
	       "created dir/kept;deleted dir/packed;");
}

static void test_deleted_directory(void **state)
{
	struct workspace workspace = new_workspace();

	(void)state;
	file(&workspace.inputs, "dir/sub/a", "1", &plain);
	file(&workspace.packed, "dir/sub/b", "1", &plain);
	whiteout(&workspace.upper, "dir");
	expect(&workspace, "deleted dir;deleted dir/sub;deleted dir/sub/a;deleted dir/sub/b;",
	       "deleted dir;deleted dir/sub;deleted dir/sub/b;");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_SCRATCH(test_changed_and_deleted),	  IN_SCRATCH(test_copied_up_only),
		IN_SCRATCH(test_packed_above_input_disk), IN_SCRATCH(test_directory_made_anew),
		IN_SCRATCH(test_deleted_directory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
