// Scores ─▶ smoothing ─▶ threshold ─▶ consecutive frames ─▶ refractory period ─▶ firings; as kws/detect/trigger.py.

const LOWEST_SCORE = 1e-7;

function logitOf(score) {
  const clipped = Math.min(Math.max(score, LOWEST_SCORE), 1 - LOWEST_SCORE);
  return Math.log(clipped / (1 - clipped));
}

export class Trigger {
  constructor(config, hopS) {
    this.config = { ...config };
    this.refractoryFrames = Math.max(1, Math.round(config.refractory_s / hopS));
    this.recent = new Array(config.smoothing_frames).fill(logitOf(0));
    this.frame = 0;
    this.runLength = 0;
    this.blockedUntil = 0;
  }

  // The smoothed score of the next frame, and whether the keyword fires there.
  feed(score) {
    this.recent.push(logitOf(score));
    this.recent.shift();
    const mean = this.recent.reduce((sum, one) => sum + one, 0) / this.recent.length;
    const smoothed = this.recent.length > 1 ? 1 / (1 + Math.exp(-mean)) : score;
    this.runLength = smoothed >= this.config.threshold ? this.runLength + 1 : 0;
    const fires = this.runLength >= this.config.consecutive_frames && this.frame >= this.blockedUntil;
    if (fires) this.blockedUntil = this.frame + this.refractoryFrames;
    this.frame += 1;
    return { smoothed, fires };
  }
}
