#include "state_matrix.hpp"

TEST_CASE("The reference's DDIM in every kind of state of bfloat16") {
  state_matrix::follow_every_kind<Eigen::bfloat16>();
}
