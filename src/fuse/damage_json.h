// SPDX-License-Identifier: GPL-2.0-or-later
// An entry of the damage list as the control attribute and `stablefs damage --json` show it.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "store/damage.h"

namespace stablefs {

nlohmann::json to_json(const DamageEntry& entry);

}  // namespace stablefs
