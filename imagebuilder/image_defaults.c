#include "imagebuilder/image_defaults.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct field {
	const char *names[2]; /* by enum defaults_names */
	bool is_list;
	size_t offset;
} fields[] = {
	{{"Env", "environment"}, true, offsetof(struct image_defaults, environment)},
	{{"Entrypoint", "entrypoint"}, true, offsetof(struct image_defaults, entrypoint)},
	{{"Cmd", "command"}, true, offsetof(struct image_defaults, command)},
	{{"User", "user"}, false, offsetof(struct image_defaults, user)},
	{{"WorkingDir", "working_directory"},
	 false,
	 offsetof(struct image_defaults, working_directory)},
};

static char ***list_of(const struct field *field, struct image_defaults *defaults)
{
	return (char ***)(void *)((char *)defaults + field->offset);
}

static char **text_of(const struct field *field, struct image_defaults *defaults)
{
	return (char **)(void *)((char *)defaults + field->offset);
}

static void free_list(char **list)
{
	for (size_t i = 0; list && list[i]; i++)
		free(list[i]);
	free(list);
}

static int parse_list(json_t *array, char ***list, struct error *error)
{
	size_t count = json_array_size(array);

	free_list(*list);
	*list = calloc(count + 1, sizeof(**list));
	if (!*list)
		return error_set(error, "out of memory");
	for (size_t i = 0; i < count; i++) {
		const char *text = json_string_value(json_array_get(array, i));
		if (!text)
			return error_set(error, "is not a list of strings");
		(*list)[i] = strdup(text);
		if (!(*list)[i])
			return error_set(error, "out of memory");
	}
	return 0;
}

static int parse_text(json_t *string, char **text, struct error *error)
{
	if (!json_is_string(string))
		return error_set(error, "is not a string");
	/* As writers of configs have it when there is nothing to say. */
	if (json_string_length(string) == 0)
		return 0;
	free(*text);
	*text = strdup(json_string_value(string));
	return *text ? 0 : error_set(error, "out of memory");
}

static int parse_field(const struct field *field, json_t *value, struct image_defaults *defaults,
		       struct error *error)
{
	if (!field->is_list)
		return parse_text(value, text_of(field, defaults), error);
	if (!json_is_array(value))
		return error_set(error, "is not a list of strings");
	return parse_list(value, list_of(field, defaults), error);
}

/* A variable without a name would be lost on its way to the job. */
static int check_environment(const struct image_defaults *defaults, const char *where,
			     struct error *error)
{
	for (char **entry = defaults->environment; entry && *entry; entry++)
		if (**entry == '=' || !strchr(*entry, '='))
			return error_set(error, "%s: the variable '%s' is not NAME=VALUE", where,
					 *entry);
	return 0;
}

int image_defaults_parse(json_t *object, enum defaults_names names, const char *where,
			 struct image_defaults *defaults, struct error *error)
{
	if (!json_is_object(object))
		return error_set(error, "'%s' is not an object", where);
	for (size_t i = 0; i < COUNT(fields); i++) {
		const char *name = fields[i].names[names];
		json_t *value = json_object_get(object, name);

		if (value && !json_is_null(value) &&
		    parse_field(&fields[i], value, defaults, error))
			return error_prefix(error, "'%s.%s'", where, name);
	}
	return check_environment(defaults, where, error);
}

static json_t *pack_list(char *const *list)
{
	json_t *array = json_array();

	for (; *list; list++) {
		if (json_array_append_new(array, json_string(*list))) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

json_t *image_defaults_pack(const struct image_defaults *defaults)
{
	struct image_defaults copy = *defaults;
	json_t *object = json_object();

	for (size_t i = 0; i < COUNT(fields); i++) {
		char **list = fields[i].is_list ? *list_of(&fields[i], &copy) : NULL;
		const char *text = fields[i].is_list ? NULL : *text_of(&fields[i], &copy);
		json_t *value = list ? pack_list(list) : json_string(text);

		if (!list && !text)
			continue;
		if (json_object_set_new(object, fields[i].names[DEFAULTS_OF_IMAGE], value)) {
			json_decref(object);
			return NULL;
		}
	}
	return object;
}

void image_defaults_free(struct image_defaults *defaults)
{
	for (size_t i = 0; i < COUNT(fields); i++) {
		if (fields[i].is_list)
			free_list(*list_of(&fields[i], defaults));
		else
			free(*text_of(&fields[i], defaults));
	}
	*defaults = (struct image_defaults){.environment = NULL};
}
