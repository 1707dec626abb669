// SPDX-License-Identifier: GPL-2.0-or-later
#include "data/block_reader.h"

#include <fmt/format.h>

#include <cstring>

#include "format/bytes.h"

namespace stablefs {
namespace {

ErrorCode code_of(MismatchKind kind) {
  switch (kind) {
    case MismatchKind::guard:
      return ErrorCode::guard_mismatch;
    case MismatchKind::app_tag:
      return ErrorCode::app_tag_mismatch;
    case MismatchKind::reference_tag:
      return ErrorCode::reference_tag_mismatch;
  }
  return ErrorCode::guard_mismatch;
}

DamageKind kind_of(MismatchKind kind) {
  switch (kind) {
    case MismatchKind::guard:
      return DamageKind::guard;
    case MismatchKind::app_tag:
      return DamageKind::app_tag;
    case MismatchKind::reference_tag:
      return DamageKind::reference_tag;
  }
  return DamageKind::guard;
}

// The medium is bad there; other errors say that there is no device any more.
bool is_damage(const Error& error) {
  return error.code() == ErrorCode::device_read || error.code() == ErrorCode::device_short;
}

std::span<std::byte> part_of(std::span<std::byte> memory, const Run& whole, const Run& part) {
  return memory.subspan((part.first_block - whole.first_block) * kBlockSize,
                        part.length_blocks * kBlockSize);
}

}  // namespace

Status BlockReader::finish() {
  const Status status = read_and_verify();
  reads_.clear();
  // Whoever commits must not keep freed blocks from being used.
  pin_.release();
  for (Finding& finding : findings_) report(finding);
  return status;
}

Status BlockReader::read_and_verify() {
  read_all();
  Status result;
  for (Read& read : reads_) {
    if (read.status.ok()) {
      if (!verify(read.run, read.memory)) continue;
      context_.count().guard_mismatches.fetch_add(1, std::memory_order_relaxed);
    } else if (!is_damage(read.status.error())) {
      return read.status;
    }
    Status status = read_again(read);
    if (result.ok()) result = std::move(status);
  }
  return result;
}

void BlockReader::read_all() {
  if (reads_.size() == 1) {
    Read& read = reads_.front();
    read.status = context_.device().read(read.run.lba, read.memory);
    return;
  }
  struct Arrivals {
    Mutex mutex{LockRank::leaf, "parallel read"};
    CondVar all;
    size_t left FS_GUARDED_BY(mutex) = 0;
  } arrivals;
  {
    MutexLock lock(arrivals.mutex);
    arrivals.left = reads_.size();
  }
  for (Read& read : reads_) {
    read.part = {read.memory.data(), read.memory.size()};
    read.request.op = DeviceOp::read;
    read.request.lba = read.run.lba;
    read.request.length_blocks = read.run.length_blocks;
    read.request.memory = {&read.part, 1};
    read.request.complete = [&read, &arrivals](Status status, uint64_t blocks_done) {
      if (status.ok() && blocks_done < read.run.length_blocks) status = ErrorCode::device_short;
      read.status = std::move(status);
      MutexLock lock(arrivals.mutex);
      if (--arrivals.left == 0) arrivals.all.notify_one();
    };
    context_.device().submit(read.request);
  }
  MutexLock lock(arrivals.mutex);
  while (arrivals.left != 0) arrivals.all.wait(arrivals.mutex);
}

std::optional<Mismatch> BlockReader::verify(const Run& run, std::span<const std::byte> memory) {
  if (!context_.options().guard) return std::nullopt;
  context_.count().guard_verified.fetch_add(run.length_blocks, std::memory_order_relaxed);
  return verify_tuples(memory, run.lba, context_.store().interval(), run.tuples);
}

// The mapping may have been replaced, or the device may have erred once.
Status BlockReader::read_again(const Read& read) {
  Status result;
  const auto runs =
      FS_TRY(lookup_beside_changes(extents_, inode_, read.run.first_block, read.run.end_block()));
  for (const Run& run : runs) {
    const std::span<std::byte> memory = part_of(read.memory, read.run, run);
    if (run.kind != RunKind::written) {
      std::memset(memory.data(), 0, memory.size());
      continue;
    }
    Status status = read_run_again(run, memory, !read.status.ok());
    if (result.ok()) result = std::move(status);
  }
  return result;
}

// As a whole, unless that `failed`; then block by block, to know which ones it is.
Status BlockReader::read_run_again(const Run& run, std::span<std::byte> memory, bool failed) {
  if (!failed) {
    const Status read = context_.device().read(run.lba, memory);
    if (read.ok() && !verify(run, memory)) return {};
    if (!read.ok() && !is_damage(read.error())) return read;
    failed = !read.ok();
  }
  const uint32_t per_block = tuples_per_block(context_.store().interval());
  Status result;
  for (uint64_t i = 0; i < run.length_blocks; ++i) {
    Run block{run.kind, run.first_block + i, 1, run.lba + i, {}};
    const auto tuples = run.tuples.begin() + static_cast<ptrdiff_t>(i * per_block);
    block.tuples.assign(tuples, tuples + per_block);
    const std::span<std::byte> part = memory.subspan(i * kBlockSize, kBlockSize);
    Status status = failed ? read_block(block, part) : check_block(block, part);
    if (result.ok()) result = std::move(status);
  }
  return result;
}

Status BlockReader::read_block(const Run& block, std::span<std::byte> memory) {
  const Status read = context_.device().read(block.lba, memory);
  if (read.ok()) return check_block(block, memory);
  if (!is_damage(read.error())) return read;
  Finding finding{{}, block.first_block * kBlockSize, read.error().code(), "cannot be read"};
  finding.entry.kind = DamageKind::read_error;
  if (!read.error().detail().empty()) finding.what += ": " + read.error().detail();
  return add_finding(block, std::move(finding));
}

Status BlockReader::check_block(const Run& block, std::span<const std::byte> memory) {
  const auto mismatch = verify(block, memory);
  if (!mismatch) return {};
  Finding finding{{},
                  block.first_block * kBlockSize + mismatch->offset_bytes,
                  code_of(mismatch->kind),
                  fmt::format("{} expected {:#x}, found {:#x}", to_string(mismatch->kind),
                              mismatch->expected, mismatch->found)};
  finding.entry.kind = kind_of(mismatch->kind);
  finding.entry.expected = mismatch->expected;
  finding.entry.found = mismatch->found;
  return add_finding(block, std::move(finding));
}

Status BlockReader::add_finding(const Run& block, Finding finding) {
  finding.entry.lba = block.lba;
  finding.entry.ino = inode_.ino;
  finding.entry.file_block = block.first_block;
  finding.entry.seen = context_.options().clock->wall_time();
  findings_.push_back(std::move(finding));
  return error_of(findings_.back(), "");
}

Error BlockReader::error_of(const Finding& finding, const std::string& path) const {
  return {finding.code, fmt::format("inode {}{} offset {} block {}: {}", inode_.ino.value, path,
                                    finding.offset_bytes, finding.entry.lba.value, finding.what)};
}

// Unless it cannot be seen that the block was not freed in the meantime.
DamageList::Added BlockReader::put_on_list(const DamageEntry& entry) {
  MutexLock lock(inode_.mutex);
  const auto run = extents_.run_at(entry.file_block);
  const bool mapped = run.ok() && run->kind == RunKind::written && run->lba == entry.lba;
  return mapped ? context_.damage().add(entry) : DamageList::Added::refused;
}

// Once for each block: its place is on the list from then on.
void BlockReader::report(const Finding& finding) {
  if (put_on_list(finding.entry) == DamageList::Added::known) return;
  const auto path = context_.damage().path_for_log(inode_.ino);
  context_.options().logger->write(
      LogLevel::error,
      error_of(finding, fmt::format(" ({})", path ? escape_text(*path) : "?")).message());
}

}  // namespace stablefs
