// Finds the classes of cells in a mask.

#include "view.h"

#include "../simd/vector.h"
#include "attention.h"

namespace VARIANT {

namespace {

constexpr uint16_t minus_infinity = 0xfc00;
constexpr int enough_cells = 16; // for pieces of their own

// A bit for each of 64 values that is not -inf, and whether any of these is a bias.
struct Word {
    uint64_t seen;
    bool has_bias;
};

ALWAYS_INLINE uint64_t set_bits(u16x32 is_set) {
#if defined(__AVX512BW__)
    return _mm512_movepi16_mask(bits<__m512i>(is_set));
#elif defined(__AVX2__)
    auto x = bits<Split<__m256i, u16x32>>(is_set);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packs_epi16(x.part[0], x.part[1]), 0xd8);
    return (uint32_t)_mm256_movemask_epi8(packed);
#else
    uint64_t result = 0;
    for (int i = 0; i < 32; i++) result |= (uint64_t)(is_set[i] & 1) << i;
    return result;
#endif
}

Word look(const uint16_t *mask, int64_t count) {
    uint16_t copy[64];
    if (count < 64) {
        for (int i = 0; i < 64; i++) copy[i] = i < count ? mask[i] : minus_infinity;
        mask = copy;
    }
    Word word{};
    for (int half = 0; half < 2; half++) {
        const u16x32 x = load<u16x32>(mask + 32 * half);
        const u16x32 is_seen = bits<u16x32>(x != minus_infinity);
        word.seen |= set_bits(is_seen) << (32 * half);
        word.has_bias |= set_bits(bits<u16x32>((x << 1) != (uint16_t)0) & is_seen) != 0;
    }
    return word;
}

// Cells that the same rows see.
struct Class {
    uint32_t rows;
    int64_t count;
    int64_t next; // where the next of its cells is written
    bool has_pieces;
};

class Maker {
  public:
    Maker(const ggml_tensor *node, const AttentionShape &s, int64_t stream, int64_t first, int rows, View *view)
        : shape_(s), rows_(rows), view_(view), piece_((View::Piece *)view->piece()), cell_((int32_t *)view->cell(s)),
          seen_((uint64_t *)view->seen(s)) {
        const ggml_tensor *mask = node->src[3];
        for (int r = 0; r < rows; r++)
            row_[r] = mask ? (const uint16_t *)((const char *)mask->data + (size_t)(first + r) * mask->nb[1] +
                                                (size_t)stream * mask->nb[3])
                           : nullptr;
    }

    void make() {
        memset(view_, 0, sizeof *view_);
        bool has_bias = false;
        for_each_class([&](uint32_t rows, int64_t, uint64_t cells, bool bias) {
            has_bias |= bias;
            const int count = __builtin_popcountll(cells);
            find(rows, true)->count += count;
        });
        view_->has_bias = has_bias;
        lay_out();
        for_each_class([&](uint32_t rows, int64_t first, uint64_t cells, bool) {
            Class *const at = find(rows, false);
            if (at->has_pieces)
                for (; cells; cells &= cells - 1) cell_[at->next++] = (int32_t)(first + __builtin_ctzll(cells));
            else
                for (; cells; cells &= cells - 1) add_mixed(rows, (int32_t)(first + __builtin_ctzll(cells)));
        });
        for (int i = first_mixed_; i < view_->pieces; i++) add_scores(piece_[i]);
    }

  private:
    // Calls f(rows, first, cells, has_bias) for cells of 64 from `first` on that the same rows see.
    template <class F> void for_each_class(F f) {
        for (int64_t first = 0; first < shape_.cells; first += 64) {
            uint64_t word[most_rows], any = 0, all = ~0ull;
            bool bias = false;
            for (int r = 0; r < rows_; r++) {
                const int64_t count = std::min<int64_t>(64, shape_.cells - first);
                Word w{count < 64 ? (1ull << count) - 1 : ~0ull, false};
                if (row_[r]) w = look(row_[r] + first, count);
                word[r] = w.seen;
                bias |= w.has_bias;
                any |= w.seen;
                all &= w.seen;
            }
            if (all) f(all_rows(), first, all, bias);
            for (uint64_t left = any & ~all; left;) {
                const int cell = __builtin_ctzll(left);
                uint32_t rows = 0;
                uint64_t same = left;
                for (int r = 0; r < rows_; r++) {
                    const uint64_t sees = word[r] >> cell & 1;
                    rows |= (uint32_t)sees << r;
                    same &= word[r] ^ (sees - 1);
                }
                f(rows, first, same, bias);
                left &= ~same;
            }
        }
    }

    uint32_t all_rows() const { return rows_ < 32 ? (1u << rows_) - 1 : ~0u; }

    // Class 0 has what is in no other: they are too many.
    Class *find(uint32_t rows, bool add) {
        if (classes_ > 1 && class_[last_].rows == rows) return &class_[last_];
        for (int i = 1; i < classes_; i++)
            if (class_[i].rows == rows) return &class_[last_ = i];
        if (!add || classes_ == known) return &class_[0];
        class_[classes_] = {rows, 0, 0, false};
        return &class_[last_ = classes_++];
    }

    // Pieces of all large classes.
    void lay_out() {
        int64_t at = 0;
        int large = 0;
        for (int i = 1; i < classes_; i++) {
            Class &c = class_[i];
            if (c.count < enough_cells || large == most_classes) continue;
            large++;
            c.has_pieces = true;
            c.next = at;
            for (int64_t done = 0; done < c.count; done += piece_cells) {
                View::Piece &piece = piece_[view_->pieces++];
                piece = {c.rows, (int32_t)(at + done), (int32_t)std::min<int64_t>(piece_cells, c.count - done), -1, 0};
                add_scores(piece);
            }
            at += c.count;
            for (int r = 0; r < rows_; r++) view_->visible[r] += c.rows >> r & 1 ? c.count : 0;
        }
        first_mixed_ = view_->pieces;
        mixed_ = at;
    }

    void add_mixed(uint32_t rows, int32_t cell) {
        if (view_->pieces == first_mixed_ || piece_[view_->pieces - 1].count == piece_cells) {
            const int words = (view_->pieces - first_mixed_) * shape_.task_rows;
            piece_[view_->pieces++] = {0, (int32_t)mixed_, 0, words, 0};
            for (int r = 0; r < shape_.task_rows; r++) seen_[words + r] = 0;
        }
        View::Piece &piece = piece_[view_->pieces - 1];
        for (int r = 0; r < rows_; r++) {
            if (!(rows >> r & 1)) continue;
            seen_[piece.seen + r] |= 1ull << piece.count;
            view_->visible[r]++;
        }
        piece.rows |= rows;
        piece.count++;
        cell_[mixed_++] = cell;
    }

    void add_scores(View::Piece &piece) {
        piece.scores = view_->scores;
        view_->scores += (int64_t)__builtin_popcount(piece.rows) * ((piece.count + 15) / 16 * 16);
    }

    static constexpr int known = 96;
    const AttentionShape &shape_;
    const int rows_;
    View *const view_;
    View::Piece *const piece_;
    int32_t *const cell_;
    uint64_t *const seen_;
    const uint16_t *row_[most_rows];
    Class class_[known] = {};
    int classes_ = 1, last_ = 0, first_mixed_ = 0;
    int64_t mixed_ = 0;
};

} // namespace

void make_view(const ggml_tensor *node, const AttentionShape &s, int64_t stream, int64_t first, int rows, View *view) {
    Maker(node, s, stream, first, rows, view).make();
}

size_t attention_view_bytes(const ggml_tensor *node) {
    const AttentionShape s(node);
    return View::bytes(s) * (size_t)(s.masks * s.row_tiles);
}

bool attention_has_same_view(const ggml_tensor *a, const ggml_tensor *b) {
    const AttentionShape x(a), y(b);
    return a->src[3] == b->src[3] && x.rows == y.rows && x.cells == y.cells && x.task_rows == y.task_rows;
}

void make_attention_view(const ggml_tensor *node, uint8_t *view, Thread &thread) {
    const AttentionShape s(node);
    for (int64_t i = thread.index(); i < s.masks * s.row_tiles; i += thread.count()) {
        const int64_t stream = i / s.row_tiles, first = i % s.row_tiles * s.task_rows;
        make_view(node, s, stream, first, (int)std::min<int64_t>(s.task_rows, s.rows - first),
                  (View *)(view + View::bytes(s) * (size_t)i));
    }
}

} // namespace VARIANT
