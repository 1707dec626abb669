// SPDX-License-Identifier: GPL-2.0-or-later
// Extended attributes that are made rather than stored: the application tag and the tuples of a
// file, and the damage list, on the root directory (see stablefs/control.h). One table says what
// there is.
#pragma once

#include <fuse_lowlevel.h>

#include <string>
#include <string_view>

#include "base/ids.h"
#include "base/result.h"

namespace stablefs {

// There may be one of this name here, so none is stored.
bool is_virtual_attribute(Ino ino, std::string_view name);
// not_supported when there is none of this name here.
Result<std::string> get_virtual_attribute(fuse_req_t req, Ino ino, std::string_view name);
// `flags`: XATTR_CREATE, XATTR_REPLACE.
Status set_virtual_attribute(fuse_req_t req, Ino ino, std::string_view name, std::string_view value,
                             int flags);
Status remove_virtual_attribute(fuse_req_t req, Ino ino, std::string_view name);
// Names of those the inode has, each with a NUL behind it.
Result<std::string> list_virtual_attributes(fuse_req_t req, Ino ino);

}  // namespace stablefs
