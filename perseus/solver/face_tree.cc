// SPDX-License-Identifier: Apache-2.0
#include "perseus/solver/face_tree.h"

#include <algorithm>

namespace perseus::solver {

FaceTree::FaceTree(const Faces& faces, const std::vector<char>& in_tree)
    : beside_(faces.beside), face_(faces.count) {
  const auto darts = static_cast<Dart>(2 * in_tree.size());
  std::vector<std::uint32_t> first(faces.count + 1, 0);
  for (Dart d = 0; d < darts; ++d) {
    if (in_tree[d / 2] == 0) ++first[beside_[d] + 1];
  }
  for (FaceId f = 0; f < faces.count; ++f) first[f + 1] += first[f];
  std::vector<Dart> around(first.back());
  std::vector<std::uint32_t> place(first.begin(), first.end() - 1);
  for (Dart d = 0; d < darts; ++d) {
    if (in_tree[d / 2] == 0) around[place[beside_[d]]++] = d;
  }
  // From the face on one side of the added arc: the way to the one on its other side crosses the cut.
  std::vector<FaceId> met{beside_[darts]};
  for (std::size_t next = 0; next < met.size(); ++next) {
    const FaceId f = met[next];
    for (std::uint32_t i = first[f]; i < first[f + 1]; ++i) {
      const Dart d = around[i];
      if (d == face_[f].up) continue;
      const FaceId g = beside_[d ^ 1];
      face_[g].up = d ^ 1;
      face_[g].parent = f;
      met.push_back(g);
    }
  }
}

void FaceTree::append_leaving(Dart p, std::vector<Dart>& darts) {
  // Once around the part: over p from the face beside it, and back by the tree. Climb from both ends in
  // turns; the first face that the other climb has met is where they join.
  if (stamp_ > kLastStamp) {
    for (Face& face : face_) face.mark = 0;
    stamp_ = 0;
  }
  stamp_ += 2;
  back_.clear();
  FaceId u = beside_[p ^ 1];
  FaceId v = beside_[p];
  const std::size_t begin = darts.size();
  face_[u].mark = stamp_;
  if (u != v) face_[v].mark = stamp_ + 1;
  FaceId join = u;
  while (u != v) {
    if (face_[u].up != kNoDart) {
      darts.push_back(face_[u].up);
      u = face_[u].parent;
      join = u;
      if (face_[u].mark == stamp_ + 1) break;
      face_[u].mark = stamp_;
    }
    if (face_[v].up != kNoDart) {
      back_.push_back(face_[v].up ^ 1);
      v = face_[v].parent;
      join = v;
      if (face_[v].mark == stamp_) break;
      face_[v].mark = stamp_ + 1;
    }
  }
  while (darts.size() > begin && beside_[darts.back() ^ 1] != join) darts.pop_back();
  while (!back_.empty() && beside_[back_.back()] != join) back_.pop_back();
  darts.insert(darts.end(), back_.rbegin(), back_.rend());
}

void FaceTree::exchange(Dart p, Dart d) {
  // d joined two faces; the lower of them heads the part of the tree that p joins to the rest.
  const FaceId before = beside_[d];
  if (face_[before].up == d) {
    face_[before].up = kNoDart;
    hang(beside_[p ^ 1], p ^ 1);
  } else {
    face_[beside_[d ^ 1]].up = kNoDart;
    hang(beside_[p], p);
  }
}

/// Turns the ways from `face` up to its root around and hangs it by `up`.
void FaceTree::hang(FaceId face, Dart up) {
  while (true) {
    const Dart next = face_[face].up;
    const FaceId above = face_[face].parent;
    face_[face].up = up;
    face_[face].parent = beside_[up ^ 1];
    if (next == kNoDart) return;
    face = above;
    up = next ^ 1;
  }
}

}  // namespace perseus::solver
