from omni_jax.core.arrays import bucket


def test_a_bucket_is_the_smallest_that_holds():
  sizes = {size: bucket(size, smallest=16) for size in range(200)}
  assert set(sizes.values()) == {16, 32, 64, 128, 256}
  assert all(size <= held and (held == 16 or held < 2 * size) for size, held in sizes.items())
