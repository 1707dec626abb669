// SPDX-License-Identifier: GPL-2.0-or-later
// What a SOURCE holds before we overwrite it, as libblkid knows it.
#pragma once

#include <optional>
#include <string>

#include "base/result.h"

namespace stablefs {

// "an ext4 filesystem", "a dos partition table"; nothing when it looks empty.
Result<std::optional<std::string>> find_signature(int descriptor);

// Removes every signature, so that what was there is not found beside or instead of us.
Status wipe_signatures(int descriptor);

}  // namespace stablefs
