// SPDX-License-Identifier: GPL-2.0-or-later
#include "fuse/virtual_attributes.h"

#include <fmt/format.h>
#include <sys/xattr.h>

#include <charconv>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>

#include "fuse/adapter.h"
#include "fuse/damage_json.h"
#include "stablefs/control.h"

namespace stablefs {
namespace {

// Of one answer, so that it fits into an attribute (64 KiB).
constexpr size_t kDamageEntriesMax = 512;
constexpr size_t kDamageTextMax = 40'000;
constexpr size_t kPathTextMax = 4096;

struct Call {
  FileSystem& fs;
  Ino ino;
  Caller caller;
  std::string_view argument;  // what follows the name and a dot
};

struct VirtualAttribute {
  std::string_view name;
  bool takes_argument;
  bool root_only;                                     // the root directory
  Result<std::string> (*get)(const Call&);            // no_attribute: not there
  Status (*set)(const Call&, std::string_view, int);  // nullptr: cannot be set
  Status (*remove)(const Call&);                      // nullptr: cannot be removed
  bool listed;
};

Status check_owner(const Call& call) {
  const Attributes attributes = FS_TRY(call.fs.get_attributes(call.ino));
  return call.caller.may_act_for(attributes.uid) ? Status() : ErrorCode::not_permitted;
}

std::optional<uint64_t> number_of(std::string_view text, int base = 10) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// --- application tag

Result<std::string> get_app_tag(const Call& call) {
  const uint16_t app_tag = FS_TRY(call.fs.app_tag(call.ino));
  if (app_tag == 0) return ErrorCode::no_attribute;
  return fmt::format("0x{:04x}", app_tag);
}

Status set_app_tag(const Call& call, std::string_view value, int flags) {
  const bool hexadecimal = value.starts_with("0x") || value.starts_with("0X");
  const auto number = hexadecimal ? number_of(value.substr(2), 16) : number_of(value);
  if (!number || *number >= kEscapeAppTag) return ErrorCode::invalid_argument;
  const bool there = FS_TRY(call.fs.app_tag(call.ino)) != 0;
  if (there && (flags & XATTR_CREATE) != 0) return ErrorCode::exists;
  if (!there && (flags & XATTR_REPLACE) != 0) return ErrorCode::no_attribute;
  return call.fs.set_app_tag(call.ino, static_cast<uint16_t>(*number));
}

Status remove_app_tag(const Call& call) {
  if (FS_TRY(call.fs.app_tag(call.ino)) == 0) return ErrorCode::no_attribute;
  return call.fs.set_app_tag(call.ino, 0);
}

// --- tuples: "FIRST_BLOCK.BLOCKS"

const char* kind_name(RunKind kind) {
  switch (kind) {
    case RunKind::hole:
      return "hole";
    case RunKind::unwritten:
      return "unwritten";
    case RunKind::written:
      return "written";
  }
  return "?";
}

nlohmann::json to_json(const Run& run) {
  nlohmann::json out;
  out["file_block"] = run.first_block;
  out["blocks"] = run.length_blocks;
  out["kind"] = kind_name(run.kind);
  if (run.kind != RunKind::hole) out["block"] = run.lba.value;
  if (run.kind != RunKind::written) return out;
  std::string tuples;
  for (const Tuple& tuple : run.tuples) {
    tuples += fmt::format("{:04x}{:04x}{:08x}", uint16_t{tuple.guard}, uint16_t{tuple.app_tag},
                          uint32_t{tuple.reference_tag});
  }
  out["tuples"] = tuples;
  return out;
}

Result<std::string> get_tags(const Call& call) {
  FS_TRY(check_owner(call));
  const size_t dot = call.argument.find('.');
  if (dot == std::string_view::npos) return ErrorCode::invalid_argument;
  const auto first = number_of(call.argument.substr(0, dot));
  const auto blocks = number_of(call.argument.substr(dot + 1));
  constexpr uint64_t kFileBlocksMax = kMaxFileBytes / kBlockSize;
  if (!first || !blocks || *blocks == 0 || *blocks > kTagsBlocksMax) {
    return ErrorCode::invalid_argument;
  }
  if (*first >= kFileBlocksMax) return ErrorCode::invalid_argument;
  nlohmann::json runs = nlohmann::json::array();
  for (const Run& run : FS_TRY(call.fs.mapped_runs(call.ino, *first, *first + *blocks))) {
    runs.push_back(to_json(run));
  }
  return runs.dump();
}

// --- damage list: without argument, or from a block on

Result<std::string> get_damage(const Call& call) {
  FS_TRY(check_owner(call));
  const auto from = call.argument.empty() ? 0 : number_of(call.argument);
  if (!from) return ErrorCode::invalid_argument;
  nlohmann::json entries = nlohmann::json::array();
  nlohmann::json next;
  size_t text_bytes = 0;
  auto damage = FS_TRY(call.fs.damage(Lba(*from), kDamageEntriesMax + 1));
  for (DamageEntry& entry : damage) {
    if (entry.path.size() > kPathTextMax) {
      entry.path = "..." + entry.path.substr(entry.path.size() - kPathTextMax);
    }
    nlohmann::json one = to_json(entry);
    text_bytes += one.dump().size();
    if (!entries.empty() && (entries.size() == kDamageEntriesMax || text_bytes > kDamageTextMax)) {
      next = entry.lba.value;
      break;
    }
    entries.push_back(std::move(one));
  }
  return nlohmann::json{{"entries", std::move(entries)}, {"next", std::move(next)}}.dump();
}

Status clear_damage(const Call& call, std::string_view value, int) {
  if (!call.caller.may_manage()) return ErrorCode::not_permitted;
  if (value != kDamageClear || !call.argument.empty()) return ErrorCode::invalid_argument;
  return call.fs.clear_damage();
}

constexpr VirtualAttribute kAttributes[] = {
    {kAppTagAttribute, false, false, get_app_tag, set_app_tag, remove_app_tag, true},
    {kTagsAttribute, true, false, get_tags, nullptr, nullptr, false},
    {kControlDamage, true, true, get_damage, clear_damage, nullptr, false},
};

const VirtualAttribute* find(Ino ino, std::string_view name, std::string_view& argument) {
  for (const VirtualAttribute& attribute : kAttributes) {
    if (attribute.root_only && ino != kRootIno) continue;
    if (!name.starts_with(attribute.name)) continue;
    std::string_view rest = name.substr(attribute.name.size());
    if (!rest.empty() && (!attribute.takes_argument || rest.front() != '.')) continue;
    if (!rest.empty()) rest.remove_prefix(1);
    argument = rest;
    return &attribute;
  }
  return nullptr;
}

Call call_of(fuse_req_t req, Ino ino) {
  return {Adapter::of(req).fs(), ino, current_caller(), {}};
}

}  // namespace

bool is_virtual_attribute(Ino ino, std::string_view name) {
  std::string_view argument;
  return find(ino, name, argument) != nullptr;
}

Result<std::string> get_virtual_attribute(fuse_req_t req, Ino ino, std::string_view name) {
  Call call = call_of(req, ino);
  const VirtualAttribute* attribute = find(ino, name, call.argument);
  if (attribute == nullptr) return ErrorCode::not_supported;
  return attribute->get(call);
}

Status set_virtual_attribute(fuse_req_t req, Ino ino, std::string_view name, std::string_view value,
                             int flags) {
  Call call = call_of(req, ino);
  const VirtualAttribute* attribute = find(ino, name, call.argument);
  if (attribute == nullptr || attribute->set == nullptr) return ErrorCode::not_supported;
  return attribute->set(call, value, flags);
}

Status remove_virtual_attribute(fuse_req_t req, Ino ino, std::string_view name) {
  Call call = call_of(req, ino);
  const VirtualAttribute* attribute = find(ino, name, call.argument);
  if (attribute == nullptr || attribute->remove == nullptr) return ErrorCode::not_supported;
  return attribute->remove(call);
}

Result<std::string> list_virtual_attributes(fuse_req_t req, Ino ino) {
  const Call call = call_of(req, ino);
  std::string names;
  for (const VirtualAttribute& attribute : kAttributes) {
    if (!attribute.listed) continue;
    const auto value = attribute.get(call);
    if (!value.ok()) {
      const ErrorCode code = value.error().code();
      if (code == ErrorCode::no_attribute || code == ErrorCode::not_supported) continue;
      return value.error();
    }
    names += attribute.name;
    names += '\0';
  }
  return names;
}

}  // namespace stablefs
