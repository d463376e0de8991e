/*
 * tar_acl: access control lists as libarchive has them, made into what Linux keeps.
 */
#ifndef IMAGEBUILDER_TAR_ACL_H
#define IMAGEBUILDER_TAR_ACL_H

#include "imagebuilder/tar_reader.h"

/*
 * The mode of ENTRY. libarchive puts the group's permissions from the list into it; in Linux it is
 * the mask that stands there.
 */
mode_t tar_acl_mode(struct archive_entry *entry);

/*
 * Calls SET for each list that ENTRY has, with its attribute's name and value, but for those that
 * it also has as an attribute. Users that the list has only names for are an error.
 */
int tar_acls(struct archive_entry *entry, tar_set_xattr *set, void *context, struct error *error);

#endif
