// The normal numbers of torch.randn on the CPU, from the same seed: the Mersenne twister (Matsumoto & Nishimura 1998),
// 24 bits of each number, Box and Muller's transform on blocks of sixteen. So SmoothGrad's noise is that of helpers.

const N = 624, M = 397;

/** A function that fills a Float32Array, whose length is a multiple of 16, with the next normal numbers. */
export function normal(seed) {
  const state = new Uint32Array(N);
  let place = N;
  state[0] = seed;
  for (let i = 1; i < N; i++) state[i] = Math.imul(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;

  function twist() {
    for (let i = 0; i < N; i++) {
      const joined = (state[i] & 0x80000000) | (state[(i + 1) % N] & 0x7fffffff);
      state[i] = state[(i + M) % N] ^ (joined >>> 1) ^ (joined & 1 ? 0x9908b0df : 0);
    }
    place = 0;
  }

  function uniform() {
    if (place === N) twist();
    let value = state[place++];
    value ^= value >>> 11;
    value ^= (value << 7) & 0x9d2c5680;
    value ^= (value << 15) & 0xefc60000;
    value ^= value >>> 18;
    return (value & 0xffffff) / 0x1000000;
  }

  return (values) => {
    for (let i = 0; i < values.length; i++) values[i] = uniform();
    for (let block = 0; block < values.length; block += 16) {
      for (let i = block; i < block + 8; i++) {
        const radius = Math.sqrt(-2 * Math.log(1 - values[i])), angle = 2 * Math.PI * values[i + 8];
        values[i] = radius * Math.cos(angle);
        values[i + 8] = radius * Math.sin(angle);
      }
    }
    return values;
  };
}
