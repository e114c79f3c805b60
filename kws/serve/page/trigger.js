// Scores ─▶ smoothing ─▶ threshold ─▶ consecutive frames ─▶ refractory period ─▶ firings; as kws/detect/trigger.py.

export class Trigger {
  constructor(config, hopS) {
    this.config = { ...config };
    this.refractoryFrames = Math.max(1, Math.round(config.refractory_s / hopS));
    this.recent = new Array(config.smoothing_frames).fill(0);
    this.frame = 0;
    this.runLength = 0;
    this.blockedUntil = 0;
  }

  // The smoothed score of the next frame, and whether the keyword fires there.
  feed(score) {
    this.recent.push(score);
    this.recent.shift();
    const smoothed = this.recent.reduce((sum, one) => sum + one, 0) / this.recent.length;
    this.runLength = smoothed >= this.config.threshold ? this.runLength + 1 : 0;
    const fires = this.runLength >= this.config.consecutive_frames && this.frame >= this.blockedUntil;
    if (fires) this.blockedUntil = this.frame + this.refractoryFrames;
    this.frame += 1;
    return { smoothed, fires };
  }
}
