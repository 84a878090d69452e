// The hook on the bundled network's attention: what it is shown, that looking changes nothing, and
// that what it writes is used. And the vectors that stand for classes.

#include "catch.hpp"

#include "../examples/nn/unet2d.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <mutex>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

namespace {

using Network = nn::Unet2d<float>;
using Batch = Network::Batch;
using nn::AttentionPlace;

Network bundled() {
  return Network::load(std::filesystem::path(DIFFUSION_MODELS_DIR) / "digits-and-clothing" /
                       "unet");
}

Batch input() {
  Batch x(2, 1, 28, 28);
  for (Eigen::Index i = 0; i < x.size(); ++i) x.data()[i] = std::sin(0.37f * static_cast<float>(i));
  return x;
}

const std::vector<int> labels{3, 12};

Batch answer(Network& network) {
  Batch out;
  network(input(), 400, labels, out);
  return out;
}

bool same(const Batch& a, const Batch& b) {
  return a.size() == b.size() && std::equal(a.data(), a.data() + a.size(), b.data());
}

using Key = std::tuple<Eigen::Index, int, int>;  // sample, layer, head

}  // namespace

TEST_CASE("A hook sees every head's probabilities, and looking changes nothing") {
  Network network = bundled();
  network.set_threads(2);
  const Batch plain = answer(network);

  std::mutex mutex;
  std::set<Key> seen;
  float worst_sum = 0;
  bool shapes = true;
  network.set_attention_hook([&](const AttentionPlace& place, std::span<float> probabilities) {
    const std::lock_guard lock(mutex);
    seen.insert({place.sample, place.layer, place.head});
    shapes = shapes && place.pixels == 49 && place.queries == 49 && place.first_query == 0 &&
             probabilities.size() == 49u * 49u;
    for (std::size_t row = 0; row < 49; ++row) {
      float sum = 0;
      for (std::size_t i = 0; i < 49; ++i) sum += probabilities[row * 49 + i];
      worst_sum = std::max(worst_sum, std::abs(sum - 1));
    }
  });
  CHECK(same(answer(network), plain));
  CHECK(shapes);
  CHECK(worst_sum < 1e-5f);
  CHECK(seen.size() == 2u * 4u * 2u);  // samples, layers at 7 x 7, heads
  CHECK(std::get<1>(*seen.rbegin()) == 3);
  CHECK(std::get<2>(*seen.rbegin()) == 1);

  const auto before = seen.size();
  seen.clear();
  network.set_attention_hook({});
  CHECK(same(answer(network), plain));
  CHECK((before > 0 && seen.empty()));
}

TEST_CASE("What a hook writes is what the network attends by") {
  Network network = bundled();
  const Batch plain = answer(network);
  std::vector<std::vector<float>> kept;
  network.set_attention_hook(
      [&](const AttentionPlace&, std::span<float> p) { kept.emplace_back(p.begin(), p.end()); });
  answer(network);

  // Its own maps again: the same answer.
  std::size_t next = 0;
  network.set_attention_hook([&](const AttentionPlace&, std::span<float> p) {
    std::copy(kept[next].begin(), kept[next].end(), p.begin());
    ++next;
  });
  CHECK(same(answer(network), plain));
  CHECK(next == kept.size());

  // The first sample's maps in the second, which alone changes.
  network.set_attention_hook([&](const AttentionPlace& place, std::span<float> p) {
    const auto at = static_cast<std::size_t>(place.layer * 2 + place.head);
    if (place.sample == 1) std::copy(kept[at].begin(), kept[at].end(), p.begin());
  });
  const Batch changed = answer(network);
  const Eigen::Index half = plain.size() / 2;
  CHECK(std::equal(plain.data(), plain.data() + half, changed.data()));
  float largest = 0;
  for (Eigen::Index i = half; i < plain.size(); ++i)
    largest = std::max(largest, std::abs(plain.data()[i] - changed.data()[i]));
  CHECK(largest > 1e-3f);
}

TEST_CASE("The vector of a class stands for its label, and others lie between") {
  Network network = bundled();
  const Batch plain = answer(network);
  const auto width = network.class_vector(0).size();
  CHECK(width == static_cast<std::size_t>(network.config().time_embedding_dim));
  std::vector<float> vectors;
  for (const int label : labels)
    for (const float x : network.class_vector(label)) vectors.push_back(x);
  Batch out;
  network.call_with_class_vectors(input(), 400, vectors, out);
  CHECK(same(out, plain));

  // The first halfway to the second: not the answer for either.
  for (std::size_t i = 0; i < width; ++i) vectors[i] = (vectors[i] + vectors[width + i]) / 2;
  network.call_with_class_vectors(input(), 400, vectors, out);
  CHECK_FALSE(std::equal(plain.data(), plain.data() + plain.size() / 2, out.data()));

  const auto message = [&](const auto& action) -> std::string {
    try {
      action();
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "no error";
  };
  CHECK(message([&] { network.class_vector(21); }) == "class label is 21, must be from 0 to 20");
  vectors.pop_back();
  CHECK(message([&] { network.call_with_class_vectors(input(), 400, vectors, out); }) ==
        "Unet2d: class vectors hold 255 numbers, the network takes 256, batch times "
        "time_embedding_dim");
  CHECK(message([&] { network.call_with_class_vectors(input(), 400, {}, out); }) ==
        "Unet2d: 0 class labels for a batch of 2, must be one for each sample");
}
