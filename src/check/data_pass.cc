// SPDX-License-Identifier: GPL-2.0-or-later
#include "check/data_pass.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/sync.h"
#include "format/items.h"

namespace stablefs {
namespace {

constexpr uint64_t kPieceBlocks = 256;
constexpr uint64_t kQueuedBlocksMax = 2048;
constexpr size_t kPiecesMax = 64;

ProblemId problem_of(MismatchKind kind) {
  switch (kind) {
    case MismatchKind::guard:
      return ProblemId::data_guard;
    case MismatchKind::app_tag:
      return ProblemId::data_app_tag;
    case MismatchKind::reference_tag:
      return ProblemId::data_reference_tag;
  }
  return ProblemId::data_guard;
}

}  // namespace

DataPass::DataPass(BlockDevice& device, Store& store, Reporter& reporter,
                   std::function<std::string(uint64_t ino)> where)
    : device_(device),
      store_(store),
      reporter_(reporter),
      where_(std::move(where)),
      per_block_(tuples_per_block(store.interval())),
      read_(device.block_count()) {}

void DataPass::run(Scanner& scanner, uint64_t total_blocks) {
  total_blocks_ = total_blocks;
  (void)scanner.for_each(Key(Ino(1), ItemKind::inode, 0), Key::maximum(), reporter_,
                         [this](const Item& item) { visit_extent(item); });
  flush();
}

void DataPass::visit_extent(const Item& item) {
  if (item.key.kind != static_cast<uint8_t>(ItemKind::extent)) return;
  if (!validate_item(item.key, item.value, store_.interval()).ok()) return;
  DiskExtent extent;
  std::memcpy(&extent, item.value.data(), sizeof extent);
  const uint64_t length = extent.length_blocks;
  if ((extent.flags & kExtentUnwritten) != 0) return;
  if (extent.lba >= device_.block_count() || length > device_.block_count() - extent.lba) return;
  const bool has_own_tuples = (extent.flags & kExtentTuplesInline) != 0;
  for (uint64_t done = 0; done < length;) {
    Piece piece;
    piece.ino = item.key.object;
    piece.file_block = item.key.offset + done;
    piece.range = {Lba(extent.lba + done), std::min(kPieceBlocks, length - done)};
    if (!has_own_tuples) piece.range.length_blocks = take_unread(piece.range);
    done += std::max<uint64_t>(piece.range.length_blocks, 1);
    if (piece.range.length_blocks == 0) continue;
    piece.tuples.resize(piece.range.length_blocks * per_block_);
    if (has_own_tuples) {
      std::memcpy(piece.tuples.data(), item.value.data() + sizeof extent,
                  piece.tuples.size() * sizeof(Tuple));
      piece.has_tuples.assign(piece.range.length_blocks, true);
    } else {
      piece.has_tuples.assign(piece.range.length_blocks, false);
      load_tuples(piece);
    }
    queued_blocks_ += piece.range.length_blocks;
    pieces_.push_back(std::move(piece));
    if (queued_blocks_ >= kQueuedBlocksMax || pieces_.size() >= kPiecesMax) flush();
  }
}

// How many blocks at the start of the range nobody else's extent had.
uint64_t DataPass::take_unread(BlockRange range) {
  uint64_t blocks = 0;
  while (blocks < range.length_blocks && read_.insert(range.start + blocks)) ++blocks;
  return blocks;
}

// Blocks that lack tuples were reported by the space pass.
void DataPass::load_tuples(Piece& piece) {
  const uint64_t first = piece.range.start.value;
  const uint64_t end = piece.range.end().value;
  Key from = Key::global(ItemKind::tuples, first);
  if (auto before = store_.floor(from, Key::global(ItemKind::tuples, 0)); before.ok() && *before) {
    from = (*before)->key;
  }
  const auto items =
      store_.scan(from, Key::global(ItemKind::tuples, end - 1), piece.range.length_blocks + 1);
  if (!items.ok()) return;
  for (const Item& item : *items) {
    if (!validate_item(item.key, item.value, store_.interval()).ok()) continue;
    const uint64_t item_end = item.key.offset + item.value.size() / sizeof(Tuple) / per_block_;
    for (uint64_t lba = std::max(first, item.key.offset); lba < std::min(end, item_end); ++lba) {
      std::memcpy(&piece.tuples[(lba - first) * per_block_],
                  item.value.data() + (lba - item.key.offset) * per_block_ * sizeof(Tuple),
                  per_block_ * sizeof(Tuple));
      piece.has_tuples[lba - first] = true;
    }
  }
}

void DataPass::flush() {
  read_pieces();
  for (Piece& piece : pieces_) verify(piece);
  reporter_.progress("data", reporter_.counts().verified_blocks, total_blocks_);
  pieces_.clear();
  queued_blocks_ = 0;
}

void DataPass::read_pieces() {
  std::vector<DeviceRequest> requests(pieces_.size());
  std::vector<iovec> memory(pieces_.size());
  std::vector<DeviceRequest*> pointers;
  Mutex mutex(LockRank::leaf, "check data");
  CondVar changed;
  size_t left = pieces_.size();
  for (size_t i = 0; i < pieces_.size(); ++i) {
    Piece& piece = pieces_[i];
    piece.buffer = AlignedBuffer(piece.range.length_blocks * kBlockSize);
    memory[i] = {piece.buffer.data(), piece.buffer.size()};
    requests[i].op = DeviceOp::read;
    requests[i].lba = piece.range.start;
    requests[i].length_blocks = piece.range.length_blocks;
    requests[i].memory = {&memory[i], 1};
    requests[i].complete = [&, i](Status status, uint64_t blocks_done) {
      const bool is_short = status.ok() && blocks_done < pieces_[i].range.length_blocks;
      pieces_[i].status = is_short ? Status(ErrorCode::device_short) : std::move(status);
      MutexLock lock(mutex);
      --left;
      changed.notify_one();
    };
    pointers.push_back(&requests[i]);
  }
  device_.submit_all(pointers);
  MutexLock lock(mutex);
  while (left != 0) changed.wait(mutex);
}

void DataPass::verify(Piece& piece) {
  for (uint64_t i = 0; i < piece.range.length_blocks; ++i) {
    auto block = piece.buffer.span().subspan(i * kBlockSize, kBlockSize);
    if (!piece.status.ok()) {
      // One bad block fails the whole request: find out which.
      const Status status = device_.read(piece.range.start + i, block);
      if (!status.ok()) {
        reporter_.add(ProblemId::data_unreadable, block_text(piece, i), status.error().message());
        continue;
      }
    }
    ++reporter_.counts().verified_blocks;
    if (piece.has_tuples[i]) verify_block(piece, i, block);
  }
}

void DataPass::verify_block(const Piece& piece, uint64_t index, std::span<const std::byte> block) {
  const auto mismatch =
      verify_tuples(block, piece.range.start + index, store_.interval(),
                    std::span(piece.tuples).subspan(index * per_block_, per_block_));
  if (!mismatch) return;
  reporter_.add(problem_of(mismatch->kind), block_text(piece, index),
                fmt::format("{} expected {:x} found {:x}", to_string(mismatch->kind),
                            mismatch->expected, mismatch->found));
}

std::string DataPass::block_text(const Piece& piece, uint64_t index) {
  return fmt::format("{}, offset {}, block {}", where_(piece.ino),
                     (piece.file_block + index) * kBlockSize, piece.range.start.value + index);
}

}  // namespace stablefs
